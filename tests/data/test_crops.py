"""Which crop is the i-th sample."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.data.crops import CropPlan, TrainingCase, case_weights

plans = st.builds(
    CropPlan,
    cases=st.integers(1, 30),
    pool_size=st.integers(1, 20),
    epochs=st.integers(1, 6),
    batch_size=st.integers(1, 16),
    seed=st.integers(0, 100),
)


@given(plans)
def test_each_epoch_takes_each_case_once(plan):
    for epoch in range(plan.epochs):
        samples = range(epoch * plan.cases, (epoch + 1) * plan.cases)
        assert sorted(plan.crop(sample).case for sample in samples) == list(range(plan.cases))


@given(plans)
def test_the_steps_are_just_enough_for_the_epochs(plan):
    assert plan.steps == math.ceil(plan.epochs * plan.cases / plan.batch_size)
    taken = [sample for step in range(plan.steps) for sample in plan.samples(step, 0, 1)]
    assert taken == list(range(plan.steps * plan.batch_size))


@given(plans, st.integers(1, 8), st.data())
def test_processes_share_a_step_evenly_and_in_order(plan, processes, data):
    step = data.draw(st.integers(0, plan.steps - 1))
    shares = [plan.samples(step, process, processes) for process in range(processes)]
    assert [sample for share in shares for sample in share] == list(plan.samples(step, 0, 1))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(plans, st.data())
def test_a_resumed_process_sees_what_it_would_have_seen(plan, data):
    step = data.draw(st.integers(0, plan.steps))
    whole = list(plan.samples_from(0, 0, 2))
    before = sum(len(plan.samples(earlier, 0, 2)) for earlier in range(step))
    assert list(plan.samples_from(step, 0, 2)) == whole[before:]


@given(plans, st.integers(0, 10**7))
def test_a_crop_depends_on_its_number_and_the_plan_alone(plan, sample):
    crop = plan.crop(sample)
    for other in (0, sample + 1, 12345):
        plan.crop(other)
    assert plan.crop(sample) == crop
    assert 0 <= crop.position < plan.pool_size


def test_orders_and_places_differ_between_epochs_and_seeds():
    plan = CropPlan(cases=50, pool_size=64, epochs=3, batch_size=4, seed=0)
    epochs = [[plan.crop(50 * epoch + turn) for turn in range(50)] for epoch in range(3)]
    other_seed = [CropPlan(50, 64, 3, 4, seed=1).crop(turn) for turn in range(50)]
    orders = [tuple(crop.case for crop in crops) for crops in (*epochs, other_seed)]
    assert len(set(orders)) == 4


def test_places_are_drawn_evenly_from_the_pool():
    plan = CropPlan(cases=10, pool_size=8, epochs=400, batch_size=4, seed=0)
    counts = Counter(plan.crop(sample).position for sample in range(4000))
    assert sorted(counts) == list(range(8))
    assert min(counts.values()) > 400
    assert max(counts.values()) < 600


def test_positions_are_drawn_from_the_smallest_pool():
    """A larger size would index other pools out of range."""
    cases = tuple(
        TrainingCase("set", str(size), Path(), np.ones(1, bool), np.zeros((size, 3), np.int64)) for size in (9, 4, 6)
    )
    plan = CropPlan.from_cases(cases, Optimisation(epochs=200, batch_size=2), seed=0)
    assert {plan.crop(sample).position for sample in range(600)} == {0, 1, 2, 3}
    assert (plan.cases, plan.epochs, plan.batch_size) == (3, 200, 2)


def test_the_longest_schedule_of_the_paper_needs_its_steps():
    assert CropPlan(cases=920, pool_size=64, epochs=2000, batch_size=12, seed=0).steps == pytest.approx(153_334, abs=1)


def labelling(dataset: str, *labelled) -> list[TrainingCase]:
    """A case of `dataset` for each set of ROIs (of three) that is labelled."""
    return [
        TrainingCase(dataset, str(place), Path(), np.isin(range(3), list(rois)), np.zeros((1, 3), int))
        for place, rois in enumerate(labelled)
    ]


def test_cases_of_a_data_set_that_label_alike_are_drawn_as_ever():
    cases = (*labelling("livers", {0, 1}, {0, 1}), *labelling("spleens", {2}), *labelling("plain", set(), set()))
    assert case_weights(cases) is None
    plan = CropPlan.from_cases(cases, Optimisation(epochs=3), seed=1)
    assert plan == CropPlan(5, 1, 3, plan.batch_size, 1)


def test_a_case_that_labels_a_rare_roi_is_drawn_more_often():
    """ROI 0 is labelled in nine of ten cases, ROI 1 in one: √(9 / 1) = 3 against 1, scaled to ten draws in an epoch."""
    cases = (*labelling("heads", *[{0}] * 9, {1}), *labelling("spleens", {2}, {2}))
    weights = case_weights(cases)
    np.testing.assert_allclose(weights, [10 / 12] * 9 + [30 / 12] + [1, 1])
    plan = CropPlan.from_cases(cases, Optimisation(epochs=400), seed=0)
    drawn = np.array([plan.crop(sample).case for sample in range(400 * 12)])
    np.testing.assert_allclose(np.bincount(drawn) / 400, weights, rtol=0.1)
    assert (drawn >= 10).mean() == pytest.approx(2 / 12, rel=0.05), "each data set keeps its share"


@given(
    st.lists(st.sets(st.integers(0, 2)), min_size=1, max_size=12),
    st.lists(st.sets(st.integers(0, 2)), min_size=1, max_size=5),
    st.integers(0, 50),
)
def test_in_every_epoch_a_case_is_drawn_as_often_as_its_weight_rounded_down_or_up(heads, spleens, seed):
    cases = (*labelling("heads", *heads), *labelling("spleens", *spleens))
    weights = np.ones(len(cases))
    for first, sets in ((0, heads), (len(heads), spleens)):
        counts = [sum(roi in rois for rois in sets) for roi in range(3)]
        raw = [max([math.sqrt(max(counts) / counts[roi]) for roi in rois], default=1) for rois in sets]
        weights[first : first + len(sets)] = np.array(raw) * len(sets) / sum(raw)
    found = case_weights(cases)
    np.testing.assert_allclose(np.ones(len(cases)) if found is None else found, weights)
    plan = CropPlan.from_cases(cases, Optimisation(epochs=2), seed)
    for epoch in range(2):
        samples = range(epoch * len(cases), (epoch + 1) * len(cases))
        drawn = np.bincount([plan.crop(sample).case for sample in samples], minlength=len(cases))
        assert (drawn >= np.floor(weights - 1e-9)).all()
        assert (drawn <= np.ceil(weights + 1e-9)).all()


def test_a_case_that_is_drawn_several_times_in_an_epoch_gives_other_patches():
    plan = CropPlan(cases=4, pool_size=8, epochs=300, batch_size=2, seed=0, weights=(3.0, 1 / 3, 1 / 3, 1 / 3))
    epochs = [[plan.crop(4 * epoch + turn) for turn in range(4)] for epoch in range(300)]
    positions = [[crop.position for crop in crops if crop.case == 0] for crops in epochs]
    assert {len(drawn) for drawn in positions} == {3}
    # Three independent draws from eight are all alike once in 64 times; four standard deviations are 0.03.
    assert sum(len(set(drawn)) == 1 for drawn in positions) / 300 == pytest.approx(1 / 64, abs=0.03)
    assert min(Counter(np.concatenate(positions).tolist()).values()) > 70


def data_sets(**sizes):
    """Training cases of data sets with these numbers of cases."""
    return tuple(
        TrainingCase(name, f"{name}_{number}", Path(name), np.ones(1, bool), np.zeros((5, 3), np.int64))
        for name, size in sizes.items()
        for number in range(size)
    )


@pytest.mark.parametrize(
    ("sampling", "expected"), [("uniform_dataset", [1 / 3, 1 / 3, 1 / 3]), ("square_root", [1 / 6, 2 / 6, 3 / 6])]
)
def test_data_sets_have_the_shares_that_are_asked_for(sampling, expected):
    """1, 4 and 9 cases: √n is 1, 2 and 3. Four standard deviations of a share in 3000 draws are less than 0.04."""
    cases = data_sets(a=1, b=4, c=9)
    plan = CropPlan.from_cases(cases, Optimisation(epochs=1, batch_size=2), 0, sampling)
    drawn = [plan.crop(sample) for sample in range(3000)]
    counts = Counter(cases[crop.case].dataset for crop in drawn)
    assert [counts[name] / 3000 for name in "abc"] == pytest.approx(expected, abs=0.04)
    # Within a data set all cases, and of a case all positions.
    assert {crop.case for crop in drawn} == set(range(14))
    assert {crop.position for crop in drawn if crop.case == 0} == set(range(5))
    assert plan.steps == 7
    assert plan.crop(17) == CropPlan.from_cases(cases, Optimisation(epochs=1, batch_size=2), 0, sampling).crop(17)
    assert drawn != [CropPlan.from_cases(cases, Optimisation(), 1, sampling).crop(sample) for sample in range(3000)]


def test_every_case_once_is_what_it_was():
    cases = data_sets(a=2, b=5)
    plain = CropPlan.from_cases(cases, Optimisation(), 3)
    assert plain == CropPlan.from_cases(cases, Optimisation(), 3, "uniform_case")
    assert plain.shares is None


def test_shares_of_data_sets_keep_the_weights_of_their_cases():
    """One of four heads labels a ROI of its own: √3 against 1. Both data sets have half of the draws."""
    cases = (*labelling("heads", {0}, {0}, {0}, {1}), *labelling("spleens", {2}))
    plan = CropPlan.from_cases(cases, Optimisation(epochs=1), 0, "uniform_dataset")
    drawn = np.bincount([plan.crop(sample).case for sample in range(4000)]) / 4000
    rare = math.sqrt(3) / (3 + math.sqrt(3)) / 2
    np.testing.assert_allclose(drawn, [(0.5 - rare) / 3] * 3 + [rare, 0.5], atol=0.03)
