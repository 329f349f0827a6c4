"""Intervals and tests against enumeration and against textbook formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.reporting.intervals import compare, compare_average, holm, summarise

NAN = math.nan


def scores(cases: int, seeds: int = 1, spread: float = 0.1, between_seeds: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.7 + rng.normal(0, spread, (cases, 1)) + rng.normal(0, between_seeds, (1, seeds))


def test_the_interval_is_that_of_a_mean_of_independent_cases():
    values = scores(200)
    found = summarise(values, "some", "key")
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (found.cases, found.mean) == (200, pytest.approx(values.mean()))
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert found.median == pytest.approx(np.median(values))


def test_seeds_that_disagree_widen_the_interval():
    calm = summarise(scores(50, seeds=3), "key")
    torn = summarise(scores(50, seeds=3, between_seeds=0.1), "key")
    assert torn.high - torn.low > 2 * (calm.high - calm.low)


def test_equal_keys_give_equal_intervals_and_others_do_not():
    values = scores(10)
    assert summarise(values, "a") == summarise(values, "a")
    assert summarise(values, "a").low != summarise(values, "b").low


def test_cases_without_a_score_are_left_out():
    values = np.array([[0.2], [NAN], [0.6]])
    found = summarise(values, "key")
    assert (found.cases, found.mean, found.median) == (2, pytest.approx(0.4), pytest.approx(0.4))
    assert math.isnan(summarise(np.full((3, 1), NAN), "key").mean)


def test_one_case_has_a_mean_but_no_interval_and_no_test():
    assert math.isnan(summarise(np.array([[0.5]]), "key").low)
    single = compare(np.array([[0.5]]), np.array([[0.6]]), "key")
    assert single.mean == pytest.approx(0.1)
    assert math.isnan(single.p)


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided exact p by going through all signs; for differences without ties and zeros."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    middle = ranks.sum() / 2
    found = abs(ranks[differences > 0].sum() - middle)
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return float(np.mean([abs(total - middle) >= found for total in sums]))


@pytest.mark.parametrize("seed", range(5))
def test_wilcoxon_equals_going_through_all_signs(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.random((9, 1)), rng.random((9, 1)) + 0.2
    found = compare(first, second, "key")
    assert found.mean == pytest.approx((second - first).mean())
    assert found.p == pytest.approx(signed_rank_p((second - first)[:, 0]))
    assert found.low < found.mean < found.high


def test_pairing_takes_what_cases_share_out_of_the_interval():
    first = scores(40, spread=0.2)
    second = first + np.random.default_rng(1).normal(0.02, 0.01, first.shape)
    found = compare(first, second, "key")
    assert 0 < found.low < found.mean < found.high < 0.04


def test_equal_methods_do_not_differ():
    found = compare(scores(8), scores(8), "key")
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_cases_that_one_method_has_no_score_for_are_left_out_of_the_pairs():
    found = compare(np.array([[0.5], [NAN], [0.5]]), np.array([[0.6], [0.1], [0.8]]), "key")
    assert (found.cases, found.mean) == (2, pytest.approx(0.2))


def test_the_average_is_that_of_roi_means_and_a_case_counts_where_both_methods_have_a_score():
    first = np.array([[0.1, 0.3, NAN], [0.5, NAN, 0.9]])[:, :, None]
    second = np.array([[0.2, NAN, NAN], [0.5, 0.7, 1.0]])[:, :, None]
    found = compare_average(first, second, "key")
    assert found.mean == pytest.approx(((0.2 - 0.1) + (0.0 + 0.1) / 2) / 2)
    assert found.cases == 2, "the second case has no ROI that both scored"


def test_the_average_interval_draws_a_case_with_all_its_rois():
    """Of two cases the draws are aa, ab and bb: opposite gains of two ROIs in a case cancel in each of them."""
    first = np.zeros((2, 2, 1))
    second = np.array([[0.4, 0.0], [-0.4, 0.0]])[:, :, None]
    cancelled = compare_average(first, second, "key")
    assert (cancelled.mean, cancelled.low, cancelled.high) == pytest.approx((0, 0, 0))
    together = compare_average(first, np.abs(second), "key")
    assert (together.mean, together.low, together.high) == pytest.approx((0.2, 0, 0.4))


def test_the_average_of_one_roi_is_its_own_comparison():
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 12, 3))
    absent = np.full((1, 12, 3), NAN)
    average = compare_average(*(np.concatenate([each[None], absent]) for each in (first, second)), "difference", "key")
    assert average == compare(first, second, "key")


def test_seeds_that_disagree_widen_the_interval_of_the_average():
    first = scores(20, seeds=3)[None]
    calm = compare_average(first, first + 0.1, "key")
    torn = compare_average(first, first + np.array([0.0, 0.1, 0.2]), "key")
    assert torn.high - torn.low > 2 * (calm.high - calm.low)


def test_the_seeds_of_both_methods_are_drawn_on_their_own():
    """Seed 1 of one method is no partner of seed 1 of the other: their trainings share nothing but a number."""
    first = np.array([[0.0, 1.0]] * 4)
    for found in (compare(first, first, "key"), compare_average(first[None], first[None], "key")):
        assert (found.mean, found.low, found.high) == pytest.approx((0, -1, 1))


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_was_not_tested():
    assert holm(np.array([0.02, NAN, 0.5])) == pytest.approx([0.04, NAN, 0.5], nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_its_step_down_rule_does(p_values):
    level = 0.05
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        if p_values[place] > level / (len(p_values) - rank):
            break
        rejected.add(place)
    corrected = holm(np.array(p_values))
    assert {place for place, p in enumerate(corrected) if p <= level} == rejected
    assert (corrected >= np.array(p_values)).all()
