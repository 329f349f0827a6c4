"""Agreement and correctness of decisions, counted patch by patch."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.existence.agreement import Decided, Presence, agreement, correctness

NAMES = ("positive", "negative", "ambiguous")


def drawn(seed, patches=40, rois=2):
    """Decisions as codes 0, 1, 2 (the places in NAMES) and as `Decided`."""
    codes = np.random.default_rng(seed).integers(0, 3, (patches, rois))
    return codes, Decided(codes == 0, codes == 1)


@given(st.integers(0, 2**32))
def test_agreement_counts_every_pair(seed):
    (first, one), (second, other) = drawn(seed), drawn(seed + 1)
    chosen = np.random.default_rng(seed + 2).random(40) < 0.7
    row = agreement(one, other, 1, chosen)
    pairs = [(NAMES[first[n, 1]], NAMES[second[n, 1]]) for n in range(40) if chosen[n]]
    assert row["patches"] == len(pairs)
    for before in NAMES:
        for after in NAMES:
            assert row[f"{before}_{after}"] == pairs.count((before, after))
    assert row["agree"] == pytest.approx(np.mean([before == after for before, after in pairs]))


@given(st.integers(0, 2**32))
def test_correctness_counts_every_patch(seed):
    codes, made = drawn(seed)
    random = np.random.default_rng(seed + 1)
    truth, known = random.random((40, 2)) < 0.5, random.random((40, 2)) < 0.8
    chosen = random.random(40) < 0.7
    row = correctness(made, Presence(truth, known), 1, 0, chosen)
    judged = [n for n in range(40) if chosen[n] and known[n, 1]]
    assert (row["patches"], row["present"]) == (len(judged), sum(truth[n, 1] for n in judged))
    for code, decision in enumerate(NAMES[:2]):
        said = [n for n in judged if codes[n, 1] == code]
        right = [n for n in said if truth[n, 1] == (decision == "positive")]
        possible = [n for n in judged if truth[n, 1] == (decision == "positive")]
        of_organ = [truth[n, 0] == (decision == "positive") for n in said if known[n, 0]]
        assert (row[decision], row[f"{decision}_correct"]) == (len(said), len(right))
        for name, part, whole in (
            ("recall" if decision == "positive" else "specificity", len(right), len(possible)),
            (f"{decision}_precision", len(right), len(said)),
            (f"{decision}_organ_precision", sum(of_organ), len(of_organ)),
        ):
            share = row[name]
            assert math.isnan(share) if whole == 0 else share == pytest.approx(part / whole)


def test_without_an_organ_there_is_no_precision_with_regard_to_it():
    _, made = drawn(0)
    row = correctness(made, Presence(made.positive, np.ones_like(made.positive)), 0, None, np.ones(40, bool))
    assert row["positive_precision"] == 1
    assert math.isnan(row["positive_organ_precision"])
