"""Which crop is the i-th sample."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.data.crops import CropPlan, TrainingCase, case_weights, unlabelled_within_share

plans = st.builds(
    CropPlan,
    cases=st.integers(1, 30),
    pool_size=st.integers(1, 20),
    epochs=st.integers(1, 6),
    batch_size=st.integers(1, 16),
    seed=st.integers(0, 100),
)
limited = st.builds(
    lambda plan, waiting, taken: replace(
        plan,
        cases=plan.cases + waiting,
        unlabelled=tuple(range(waiting)),
        unlabelled_per_epoch=min(taken, waiting - 1),
    ),
    plan=plans,
    waiting=st.integers(1, 30),
    taken=st.integers(0, 29),
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


@given(plans | limited, st.integers(1, 8), st.data())
def test_processes_share_a_step_evenly_and_in_order(plan, processes, data):
    step = data.draw(st.integers(0, plan.steps - 1))
    shares = [plan.samples(step, process, processes) for process in range(processes)]
    assert [sample for share in shares for sample in share] == list(plan.samples(step, 0, 1))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(plans | limited, st.data())
def test_a_resumed_process_sees_what_it_would_have_seen(plan, data):
    step = data.draw(st.integers(0, plan.steps))
    whole = list(plan.samples_from(0, 0, 2))
    before = sum(len(plan.samples(earlier, 0, 2)) for earlier in range(step))
    assert list(plan.samples_from(step, 0, 2)) == whole[before:]


@given(plans | limited, st.integers(0, 10**7))
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


def epochs_of(plan: CropPlan, count: int) -> list[list[int]]:
    """The cases of each epoch, in order."""
    return [
        [plan.crop(epoch * plan.epoch_size + turn).case for turn in range(plan.epoch_size)] for epoch in range(count)
    ]


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "share", "expected"),
    [
        (20, 1000, 0.5, 20),
        (20, 1000, 0.9, 180),
        (20, 1000, 1.0, 1000),
        (20, 12, 0.5, 12),
        (3, 9, 0.4, 2),
        (0, 7, 0.5, 7),
    ],
)
def test_as_many_cases_without_labels_as_their_share_leaves_room_for(labelled, unlabelled, share, expected):
    """By trial: the largest number that is at most the share, where there is a labelled case."""
    fitting = [n for n in range(unlabelled + 1) if not labelled or n <= share * (labelled + n) + 1e-9]
    assert unlabelled_within_share(labelled, unlabelled, share) == fitting[-1] == expected


@given(st.integers(1, 6), st.integers(1, 20), st.sampled_from([0.2, 0.5, 0.75]), st.integers(0, 9))
def test_an_epoch_has_every_labelled_case_and_the_next_ones_without_labels(labelled, unlabelled, share, seed):
    cases = (*labelling("plain", *[set()] * unlabelled), *labelling("livers", *[{0}] * labelled))
    plan = CropPlan.from_cases(cases, Optimisation(epochs=5, batch_size=2), seed, unlabelled_share=share)
    taken = max(n for n in range(unlabelled + 1) if n <= share * (labelled + n) + 1e-9)
    epochs = epochs_of(plan, 9)
    assert plan.steps == math.ceil(5 * (labelled + taken) / 2)
    assert all(sorted(epoch)[taken:] == list(range(unlabelled, unlabelled + labelled)) for epoch in epochs)
    assert all(len(set(epoch)) == labelled + taken for epoch in epochs)
    counts = Counter(case for epoch in epochs for case in epoch if case < unlabelled)
    # Nobody has a second turn before everybody had a first.
    turns = [counts[case] for case in range(unlabelled)]
    assert max(turns) - min(turns) <= 1
    assert sum(turns) == 9 * taken
    if taken == unlabelled:
        assert plan == CropPlan.from_cases(cases, Optimisation(epochs=5, batch_size=2), seed)


def test_turns_mix_with_labelled_cases_and_differ_between_seeds():
    cases = (*labelling("livers", *[{0}] * 10), *labelling("plain", *[set()] * 500))
    one, other = (CropPlan.from_cases(cases, Optimisation(), seed, unlabelled_share=0.5) for seed in (0, 1))
    first, second = epochs_of(one, 2)
    assert not set(first) & set(second) - set(range(10))
    assert sorted(case < 10 for case in first[:10]) != [True] * 10
    assert [case < 10 for case in first] != [case < 10 for case in second]
    assert set(first) != set(epochs_of(other, 1)[0])


def test_a_case_with_a_rare_roi_keeps_its_weight_beside_cases_that_take_turns():
    """√3 against 1 of four labelled cases, whatever waits for its turn beside them in the same data set."""
    cases = (*labelling("heads", {0}, {0}, {0}, {1}, *[set()] * 60),)
    plan = CropPlan.from_cases(cases, Optimisation(), 0, unlabelled_share=0.5)
    assert plan.weights == case_weights(cases[:4])
    drawn = np.bincount(np.concatenate(epochs_of(plan, 600)), minlength=64) / 600
    np.testing.assert_allclose(
        drawn[:4], [4 / (3 + math.sqrt(3))] * 3 + [4 * math.sqrt(3) / (3 + math.sqrt(3))], rtol=0.1
    )
    np.testing.assert_allclose(drawn[4:], 4 / 60, rtol=0.05)


def test_with_replacement_the_probability_of_cases_without_labels_is_lowered_to_their_share():
    """Two of three data sets have none: 2/3 of the draws become 1/4, and √ of their sizes tells them apart still."""
    cases = (*labelling("livers", {0}, {0}), *labelling("plain", *[set()] * 4), *labelling("other", *[set()] * 16))
    plan = CropPlan.from_cases(cases, Optimisation(epochs=1, batch_size=1), 0, "square_root", 0.25)
    drawn = np.bincount([plan.crop(sample).case for sample in range(6000)], minlength=22) / 6000
    expected = [0.75 / 2] * 2 + [0.25 * (1 / 3) / 4] * 4 + [0.25 * (2 / 3) / 16] * 16
    np.testing.assert_allclose(drawn, expected, atol=0.02)
    assert plan.steps == plan.epoch_size == 2, "as many crops as an epoch of uniform_case: none of 20 fits beside two"
    unlimited = CropPlan.from_cases(cases, Optimisation(epochs=1, batch_size=1), 0, "square_root", 1.0)
    assert unlimited == CropPlan.from_cases(cases, Optimisation(epochs=1, batch_size=1), 0, "square_root")
    assert unlimited.epoch_size == 22
