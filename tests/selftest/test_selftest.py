"""`lacuna selftest`: each check passes here, and reports a fault that is planted in what it checks."""

from __future__ import annotations

import copy
import math
import os

import pytest
import torch

from pipeline_lib.config.optimisation import Execution
from pipeline_lib.measurement.timing import Measured, MeasuringError
from pipeline_lib.networks import generated_layers
from pipeline_lib.networks.instance_norm import InstanceNorm
from pipeline_lib.networks.swin_unetr import window_attention
from pipeline_lib.selftest import kernels, machine, prediction, processes, run, training
from pipeline_lib.selftest.ranks import gradient_error
from pipeline_lib.selftest.rows import Row
from pipeline_lib.training.checkpoints import Checkpoints
from pipeline_lib.training.distributed import Distributed, init_distributed
from tests.support.tiny_training import in_processes

CPU = torch.device("cpu")
GIB = 2**30


def failures(rows):
    return [row.what for row in rows if row.outcome == "FAILED"]


def test_the_kernels_agree_with_their_references():
    rows = list(kernels.check_kernels(CPU))
    assert not failures(rows)
    for name in ("InstanceNorm", "attention", "dynamic head, plain products", "dynamic head, Triton kernels"):
        assert any(row.what.startswith(name) for row in rows)


@pytest.mark.parametrize(
    ("place", "name", "fault"),
    [
        (window_attention, "attention", lambda query, key, value, bias, scale: 1.2 * value),
        (InstanceNorm, "forward", lambda self, values: values * self.weight.sum() + self.bias.sum()),
        (generated_layers, "plain_layers", lambda features, parameters, maps: None),
    ],
)
def test_a_wrong_layer_is_reported(monkeypatch, place, name, fault):
    monkeypatch.setattr(place, name, fault)
    assert failures(kernels.check_kernels(CPU))


def test_a_wrong_gradient_alone_is_reported(monkeypatch):
    right = window_attention.attention

    def wrong(query, key, value, bias, scale):
        return right(query, key, value.detach() + 0.5 * (value - value.detach()), bias, scale)

    monkeypatch.setattr(window_attention, "attention", wrong)
    assert failures(kernels.check_kernels(CPU)) == ["attention, float32"]


def test_what_is_not_a_number_is_reported(monkeypatch):
    monkeypatch.setattr(window_attention, "attention", lambda query, key, value, bias, scale: value * math.nan)
    assert "attention, float32" in failures(kernels.check_kernels(CPU))


RIGHT = Measured(seconds=0.5, peak=3 * GIB, before=1 * GIB, waiting=0.0, loss=1.0)
ESTIMATED, BOUND = 2 * GIB, 0.4


def test_a_step_as_estimated_is_right():
    assert training.judged_step("a step", RIGHT, ESTIMATED, BOUND, "cuda").outcome == "ok"
    assert training.compared("plain", RIGHT, 2, RIGHT._replace(seconds=1.0), 1, "cuda").found.startswith(
        "batch 1: 1.000 s"
    )
    assert (
        "4.00 times as long per sample"
        in training.compared("p", RIGHT, 2, RIGHT._replace(seconds=1.0), 1, "cuda").found
    )


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (None, "out of memory"),
        (RIGHT._replace(loss=math.nan), "the loss is not finite"),
        (RIGHT._replace(peak=6 * GIB), "the estimate of the memory is off"),
        (RIGHT._replace(peak=2 * GIB), "the estimate of the memory is off"),
        (RIGHT._replace(seconds=0.1), "faster than the bound"),
    ],
)
def test_a_step_that_is_not_as_it_should_be_is_reported(ours, said):
    row = training.judged_step("a step", ours, ESTIMATED, BOUND, "cuda")
    assert row.outcome == "FAILED"
    assert said in row.found


@pytest.mark.parametrize(("taken", "outcome"), [(0.23, "ok"), (0.31, "FAILED"), (0.1, "FAILED")])
def test_what_libraries_keep_does_not_make_a_small_steps_estimate_wrong(taken, outcome):
    """0.23 GiB were measured where 0.14 were reckoned; twice as much is too much all the same."""
    ours = RIGHT._replace(peak=round((1 + taken) * GIB))
    assert training.judged_step("small step", ours, 0.14 * GIB, BOUND, "cuda").outcome == outcome


@pytest.mark.parametrize("theirs", [None, RIGHT._replace(loss=math.inf)])
def test_a_plain_step_that_fails_is_reported(theirs):
    assert training.compared("plain", RIGHT, 2, theirs, 2, "cpu").outcome == "FAILED"


def test_a_step_that_ends_with_an_error_is_reported(monkeypatch):
    def measured(*arguments):
        raise MeasuringError("the process ended with -9")

    monkeypatch.setattr(training, "measured", measured)
    rows = list(training.check_steps(CPU))
    assert failures(rows) == ["small step"]
    assert rows[0].found == "MeasuringError: the process ended with -9"
    assert rows[-1] == Row("the paper's step", "not on this machine", "needs a GPU")


def test_a_training_resumes_with_the_same_bits():
    assert [row.outcome for row in training.check_resuming(CPU)] == ["ok"]


def test_a_checkpoint_that_changed_is_reported(monkeypatch):
    newest = Checkpoints.newest

    def changed(self):
        state = copy.deepcopy(newest(self))
        state["optimiser"]["state"][0]["exp_avg"] += 1
        return state

    monkeypatch.setattr(Checkpoints, "newest", changed)
    assert [row.outcome for row in training.check_resuming(CPU)] == ["FAILED"]


@pytest.mark.parametrize("method", ["save", "newest"])
def test_a_checkpoint_that_cannot_be_used_is_reported(monkeypatch, method):
    monkeypatch.setattr(Checkpoints, method, lambda *arguments: None)
    (row,) = training.check_resuming(CPU)
    assert row.outcome == "FAILED"
    assert "OSError: the checkpoint could not be" in row.found


def _error_in_two_processes(tmp_path, broken):
    def rank():
        with init_distributed(Execution(device="cpu")) as distributed:
            if broken:
                Distributed.wrap = lambda self, network: network
            error = gradient_error(distributed)
            (tmp_path / str(distributed.rank)).write_text(str(error))

    assert in_processes(rank, count=2) == [0, 0]
    return max(float((tmp_path / str(number)).read_text()) for number in (0, 1))


@pytest.mark.parametrize(("broken", "outcome"), [(False, "ok"), (True, "FAILED")])
def test_gradients_that_are_not_exchanged_are_reported(tmp_path, broken, outcome):
    error = _error_in_two_processes(tmp_path, broken)
    assert processes.judged_ranks("two", {"ranks": [0, 1], "error": error}).outcome == outcome


def test_a_process_that_is_missing_is_reported(monkeypatch):
    assert processes.judged_ranks("two", {"ranks": [0], "error": 0.0}).outcome == "FAILED"
    monkeypatch.setattr(processes, "outcome_of_ranks", lambda kind: 1 / 0)
    assert failures(processes.check_processes(CPU)) == ["two processes, gloo"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the fault is that there is no GPU")
def test_processes_that_end_with_an_error_say_its_last_line():
    with pytest.raises(RuntimeError, match=r"ended with .*PyTorch sees no GPU"):
        processes.outcome_of_ranks("cuda")


def test_processes_that_hang_are_reported_by_how_long_was_waited(monkeypatch):
    monkeypatch.setattr(processes, "_MOST_SECONDS", 0.01)
    monkeypatch.setattr(machine, "load", lambda: 3.0 * (os.cpu_count() or 1))
    assert machine.patience() == 3
    *_, row = processes.check_processes(CPU)
    assert (row.outcome, row.found) == ("FAILED", "RuntimeError: took more than 0 s")


def test_a_prediction_is_that_of_the_plain_network():
    assert [row for row in prediction.check_prediction(CPU) if row.outcome != "ok"] == []


def test_a_model_file_with_other_weights_is_reported(monkeypatch):
    save = prediction.save_model

    def broken(path, network, description):
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.head.controller.bias.neg_()
        save(path, other, description)

    monkeypatch.setattr(prediction, "save_model", broken)
    assert [row.outcome for row in prediction.check_prediction(CPU)] == ["FAILED", "FAILED"]


def test_a_check_that_breaks_hides_no_other(monkeypatch, capsys):
    def broken(device):
        yield Row("first | half", "ok", "")
        raise ZeroDivisionError("second half")

    monkeypatch.setattr(run, "CHECKS", {"one": broken, "two": lambda device: [Row("other", "ok", "fine")]})
    assert run.selftest(CPU) == 1
    said = capsys.readouterr().out
    assert "torch" in said.splitlines()[0]
    assert "| one | FAILED | ZeroDivisionError: second half |" in said
    assert "| other | ok | fine |" in said
    assert "1 failed: one" in said
    monkeypatch.setattr(run, "CHECKS", {"two": lambda device: [Row("other", "not on this machine", "")]})
    assert run.selftest(CPU) == 0
