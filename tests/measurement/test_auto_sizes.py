"""`gradient_accumulation_steps: auto`: what is taken on which memory, and that all ranks take the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline_lib.config.methods import read_method
from pipeline_lib.config.optimisation import Execution
from pipeline_lib.measurement import advice, auto_sizes
from pipeline_lib.measurement.auto_sizes import with_sizes
from pipeline_lib.measurement.cards import UNKNOWN_RATES, Card
from pipeline_lib.measurement.counting import Rates
from pipeline_lib.measurement.sizes import PAPER, SMALL
from pipeline_lib.stages.train.parts import with_parts
from pipeline_lib.training.distributed import Distributed

GIB = 2**30
CPU = torch.device("cpu")
AUTO = Execution()


@dataclass(frozen=True)
class Ranks(Distributed):
    """One of several ranks; the others answer `others`, question by question."""

    others: list[Any] = field(default_factory=list)

    def all_gather(self, value: Any) -> list[Any]:
        answers = [self.others.pop(0)] if self.others else []
        return [value, *answers] if self.is_main else [*answers, value]


@pytest.fixture
def reckoned(monkeypatch):
    """Estimates of 1 GiB of weights and gradients, and so much a sample and checkpointing; the time is told too."""
    per_sample = {"none": (4.0, 1.0), "transformer": (3.0, 1.02), "all": (1.0, 1.3)}

    def fake(variant, sizes, device):
        gib, seconds = per_sample[sizes.execution.gradient_checkpointing]
        known = device == "cuda"
        return SimpleNamespace(
            peak=(1 + gib * sizes.batch_size) * GIB,
            gradients=GIB,
            seconds=lambda rates: seconds * sizes.batch_size * known,
        )

    monkeypatch.setattr(advice, "estimate", fake)


def taken(monkeypatch, card, execution=AUTO, sizes=PAPER, distributed=None):
    """Parts and checkpointing with this card at hand."""
    monkeypatch.setattr(auto_sizes, "card_at_hand", lambda device: ("a card", card))
    distributed = distributed or Distributed(0, 1, CPU)
    found = with_sizes(execution, sizes, distributed, title="train x")
    return found.gradient_accumulation_steps, found.gradient_checkpointing


def gpu(gib):
    return Card(gib, Rates(1, 1))


def test_the_advice_for_the_card_is_taken_and_said_in_one_line(monkeypatch, reckoned, capfd):
    assert taken(monkeypatch, gpu(25.5)) == (2, "transformer")  # 20 GiB of 22.5; `none` takes 26
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "train x: takes gradient_accumulation_steps 2, gradient_checkpointing transformer: by estimate" in line
    assert "a step needs 20.0 GiB, and a card has 25.5 GiB free" in line


def test_what_the_config_says_is_left_as_it_is(monkeypatch, reckoned, capfd):
    given = Execution(gradient_accumulation_steps=3)
    assert taken(monkeypatch, gpu(25.5), given) == (3, "auto")
    assert capfd.readouterr().err == ""
    assert taken(monkeypatch, gpu(25.5), Execution(gradient_checkpointing="none")) == (3, "none")


@pytest.mark.parametrize("keys", [{"kind": "ltuda_cda"}, {"kind": "labels_alone", "supervised": {"dice": "batch"}}])
def test_a_batch_that_must_stay_whole_stays_whole_with_the_usual_checkpointing(monkeypatch, keys):
    """ltuda_cda puts three views of it through the network at once, which no estimate here knows."""
    monkeypatch.setattr(auto_sizes, "card_at_hand", lambda device: pytest.fail("it is not reckoned"))
    settings = SimpleNamespace(method=read_method(keys | {"network": "n", "encoder": "e"}))
    found = with_parts(settings, AUTO, Distributed(0, 1, CPU), "train x")
    assert (found.gradient_accumulation_steps, found.gradient_checkpointing) == (1, "auto")


def test_where_nothing_fits_the_smallest_is_tried(monkeypatch, reckoned, capfd):
    assert taken(monkeypatch, gpu(3)) == (12, "all")
    assert "by estimate no step fits, so the smallest is tried" in capfd.readouterr().err


def test_a_network_that_cannot_be_reckoned_begins_with_the_whole_batch(monkeypatch):
    assert taken(monkeypatch, gpu(24), sizes=None) == (1, "none")


def test_a_cpu_divides_the_batch_before_it_computes_anything_twice(monkeypatch, reckoned):
    """Parts cost it no time. Half of its memory is planned with."""
    cpu = Card(2 * 26.5, UNKNOWN_RATES, device="cpu")
    assert taken(monkeypatch, cpu) == (2, "none")  # 26 GiB
    assert taken(monkeypatch, cpu._replace(gib=2 * 5.5)) == (12, "transformer")  # 5 GiB; `none` takes 6


def test_where_memory_abounds_nothing_is_reckoned(monkeypatch):
    monkeypatch.setattr(advice, "estimate", lambda *_: pytest.fail("an estimate was made"))
    assert taken(monkeypatch, Card(16, UNKNOWN_RATES, device="cpu"), sizes=SMALL) == (1, "none")


def test_all_ranks_take_what_fits_the_one_with_least_memory(monkeypatch, reckoned):
    main = Ranks(0, 2, CPU, others=[8.0])
    found = taken(monkeypatch, gpu(25.5), distributed=main)
    assert found == (12, "none") == taken(monkeypatch, gpu(8.0))
    other = Ranks(1, 2, CPU, others=[25.5, auto_sizes._Choice(*found, "")])
    assert taken(monkeypatch, gpu(8.0), distributed=other) == found
