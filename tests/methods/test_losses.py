"""Equations 1 to 3 against loops over samples, ROIs and voxels in float64, and the properties they must have."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config.method_settings import SupervisedLoss
from pipeline_lib.existence.decisions import Decisions
from pipeline_lib.methods.supervised_loss import supervised_loss
from pipeline_lib.methods.teacher_losses import consistency_loss, latent_loss

LABELLED, POSITIVE, NEGATIVE, AMBIGUOUS = range(4)


class Example:
    """Random logits of student and teacher, targets and a kind for every ROI of every sample."""

    def __init__(self, seed, shape=(2, 3, 2, 3, 4), kinds=None, spread=3.0, dtype=torch.float64):
        rng = np.random.default_rng(seed)
        self.kinds = rng.integers(0, 4, shape[:2]) if kinds is None else np.array(kinds)
        self.student = torch.tensor(rng.normal(0, spread, shape), dtype=dtype)
        self.teacher = torch.tensor(rng.normal(0, spread, shape), dtype=dtype)
        self.targets = torch.tensor(rng.random(shape) < 0.3)

    @property
    def decisions(self):
        return Decisions(*(torch.tensor(self.kinds == kind) for kind in range(4)))

    def losses(self, student=None, temperature=0.1):
        student = self.student if student is None else student
        decisions = self.decisions
        return (
            supervised_loss(student, self.targets, decisions.labelled, SupervisedLoss()),
            latent_loss(student, self.teacher, decisions.latent, temperature),
            consistency_loss(student, self.teacher, decisions.ambiguous),
        )


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def naive_supervised(example, with_entropy=True, with_dice=True):
    """Eq. 1, one voxel at a time."""
    values = []
    for b, kinds in enumerate(example.kinds):
        of_rois = []
        for k, kind in enumerate(kinds):
            if kind != LABELLED:
                continue
            predicted = [sigmoid(z) for z in example.student[b, k].flatten().tolist()]
            truth = [float(t) for t in example.targets[b, k].flatten().tolist()]
            entropy = overlap = size = 0.0
            for p, t in zip(predicted, truth, strict=True):
                entropy -= math.log(p) if t else math.log(1 - p)
                overlap += p * t
                size += p + t
            dice = 1 - 2 * overlap / (size + 1)
            of_rois.append(with_entropy * entropy / len(truth) + with_dice * dice)
        values.append(sum(of_rois) / len(of_rois) if of_rois else 0.0)
    return values


def naive_latent(example, temperature):
    """Eq. 2 with the paper's powers."""
    values = []
    for b, kinds in enumerate(example.kinds):
        of_rois = []
        for k, kind in enumerate(kinds):
            if kind not in (POSITIVE, NEGATIVE):
                continue
            entropy = 0.0
            pairs = zip(example.student[b, k].flatten().tolist(), example.teacher[b, k].flatten().tolist(), strict=True)
            for student, teacher in pairs:
                p, q = sigmoid(teacher), sigmoid(student)
                power = 1 / temperature
                sharpened = p**power / (p**power + (1 - p) ** power)
                entropy -= sharpened * math.log(q) + (1 - sharpened) * math.log(1 - q)
            of_rois.append(entropy / example.student[b, k].numel())
        values.append(sum(of_rois) / len(of_rois) if of_rois else 0.0)
    return values


def naive_consistency(example, kinds_used):
    """Eq. 3."""
    values = []
    for b, kinds in enumerate(example.kinds):
        of_rois = []
        for k, kind in enumerate(kinds):
            if kind in kinds_used:
                pairs = zip(
                    example.student[b, k].flatten().tolist(), example.teacher[b, k].flatten().tolist(), strict=True
                )
                squares = [(sigmoid(student) - sigmoid(teacher)) ** 2 for student, teacher in pairs]
                of_rois.append(sum(squares) / len(squares))
        values.append(sum(of_rois) / len(of_rois) if of_rois else 0.0)
    return values


shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), shape=shapes, temperature=st.floats(0.1, 1.0))
def test_equations_equal_their_loops(seed, shape, temperature):
    example = Example(seed, shape)
    supervised, latent, consistency = example.losses(temperature=temperature)
    np.testing.assert_allclose(supervised, naive_supervised(example), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(latent, naive_latent(example, temperature), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(consistency, naive_consistency(example, {AMBIGUOUS}), rtol=1e-6, atol=1e-9)


def test_float32_agrees_within_one_millionth():
    wide = Example(3, (3, 4, 3, 4, 5))
    narrow = Example(3, (3, 4, 3, 4, 5), dtype=torch.float32)
    # The reference sees the same rounded numbers.
    wide.student, wide.teacher = narrow.student.double(), narrow.teacher.double()
    for mine, reference in zip(narrow.losses(), wide.losses(), strict=True):
        assert mine.dtype == torch.float32
        np.testing.assert_allclose(mine, reference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", [SupervisedLoss(dice=None), SupervisedLoss(cross_entropy=False)], ids=["ce", "dice"])
def test_either_half_of_equation_1_can_stand_alone(form):
    example = Example(4)
    expected = naive_supervised(example, with_entropy=form.cross_entropy, with_dice=form.dice is not None)
    found = supervised_loss(example.student, example.targets, example.decisions.labelled, form)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_consistency_may_cover_every_roi():
    example = Example(6)
    expected = naive_consistency(example, {LABELLED, POSITIVE, NEGATIVE, AMBIGUOUS})
    every_roi = torch.ones_like(example.decisions.labelled)
    np.testing.assert_allclose(consistency_loss(example.student, example.teacher, every_roi), expected, rtol=1e-6)


@pytest.mark.parametrize("term", [0, 1, 2], ids=["eq1", "eq2", "eq3"])
def test_gradients_equal_finite_differences(term):
    example = Example(8, (2, 4, 2, 1, 2), kinds=[[0, 1, 2, 3], [3, 0, 2, 2]])
    student = example.student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: example.losses(z)[term], student)


def gradient(example, term):
    student = example.student.clone().requires_grad_()
    example.losses(student)[term].sum().backward()
    return student.grad


@pytest.mark.parametrize(
    ("term", "kinds_used"), [(0, {LABELLED}), (1, {POSITIVE, NEGATIVE}), (2, {AMBIGUOUS})], ids=["eq1", "eq2", "eq3"]
)
def test_each_term_sees_only_its_rois(term, kinds_used):
    example = Example(9, (3, 4, 2, 2, 2), kinds=[[0, 1, 2, 3], [3, 3, 0, 0], [1, 2, 1, 2]])
    used = torch.tensor(np.isin(example.kinds, list(kinds_used)))
    before, slope = example.losses()[term], gradient(example, term)
    # Whatever stands in the others, even NaN, changes nothing and gets no gradient.
    for maps in (example.student, example.teacher):
        maps[~used] = math.nan
    example.targets[~used] ^= True
    assert torch.equal(example.losses()[term], before)
    slope_with_nan = gradient(example, term)
    assert torch.equal(slope_with_nan, slope)
    assert (slope[~used] == 0).all()
    assert (slope[used] != 0).any(dim=(1, 2, 3)).all()


@pytest.mark.parametrize("kind", [LABELLED, POSITIVE, AMBIGUOUS])
def test_a_term_that_selects_nothing_is_zero_with_zero_gradient(kind):
    example = Example(10, kinds=[[kind] * 3] * 2)
    term_of_kind = {LABELLED: 0, POSITIVE: 1, AMBIGUOUS: 2}[kind]
    for term in {0, 1, 2} - {term_of_kind}:
        assert example.losses()[term].tolist() == [0.0, 0.0]
        assert torch.count_nonzero(gradient(example, term)) == 0


def test_one_empty_sample_does_not_touch_the_other():
    example = Example(11, kinds=[[LABELLED] * 3, [POSITIVE, AMBIGUOUS, NEGATIVE]])
    alone = Example(11, kinds=[[LABELLED] * 3, [POSITIVE, AMBIGUOUS, NEGATIVE]])
    alone.student, alone.teacher, alone.targets = alone.student[1:], alone.teacher[1:], alone.targets[1:]
    alone.kinds = alone.kinds[1:]
    for both, single in zip(example.losses(), alone.losses(), strict=True):
        assert both[1] == single[0]


def test_the_teacher_gets_no_gradient():
    example = Example(12, kinds=[[1, 2, 3], [3, 3, 1]])
    example.teacher.requires_grad_()
    student = example.student.clone().requires_grad_()
    _, latent, consistency = example.losses(student)
    (latent + consistency).sum().backward()
    assert example.teacher.grad is None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), order=st.permutations(range(4)))
def test_the_order_of_the_rois_does_not_matter(seed, order):
    example, permuted = Example(seed, (2, 4, 2, 2, 3)), Example(seed, (2, 4, 2, 2, 3))
    permuted.student, permuted.teacher = permuted.student[:, order], permuted.teacher[:, order]
    permuted.targets, permuted.kinds = permuted.targets[:, order], permuted.kinds[:, order]
    for mine, other in zip(example.losses(), permuted.losses(), strict=True):
        torch.testing.assert_close(mine, other)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_dice_is_over_the_whole_patch(seed):
    """A Dice that sums over slabs of an axis, or over the batch, would notice where in the patch a voxel lies."""
    example = Example(seed, (2, 2, 3, 4, 5), kinds=[[0, 0], [0, 0]])
    before = example.losses()[0]
    order = np.random.default_rng(seed).permutation(60)
    example.student = example.student.flatten(2)[..., order].reshape(2, 2, 3, 4, 5)
    example.targets = example.targets.flatten(2)[..., order].reshape(2, 2, 3, 4, 5)
    torch.testing.assert_close(example.losses()[0], before)


def test_perfect_and_inverted_predictions_bound_the_loss():
    targets = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    targets[..., :2] = True
    labelled = torch.ones(1, 1, dtype=torch.bool)
    sure = torch.where(targets, 40.0, -40.0)
    # Of 32 voxels: a Dice of 64 / (64 + 1), so a perfect prediction costs 1/65.
    assert supervised_loss(sure, targets, labelled, SupervisedLoss()).item() == pytest.approx(1 / 65, rel=1e-4)
    # Wrong everywhere: cross-entropy 40, and no overlap at all.
    assert supervised_loss(-sure, targets, labelled, SupervisedLoss()).item() == pytest.approx(40 + 1, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_logits_overflow_nothing_in_autocast(dtype):
    example = Example(13, (2, 4, 2, 2, 2), kinds=[[0, 1, 2, 3], [0, 1, 2, 3]])
    signs = torch.sign(example.student)
    example.student = (60000 * signs).to(dtype).requires_grad_()
    example.teacher = (-60000 * signs).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        terms = example.losses()
        assert all(term.dtype == torch.float32 and term.isfinite().all() for term in terms)
        (slope,) = torch.autograd.grad(sum(terms).sum(), example.student)
        assert slope.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_computes_the_terms_in_float32(dtype):
    """Sums over a patch of 131,072 voxels exceed float16 and drown in bfloat16."""
    example = Example(14, (1, 3, 32, 64, 64), kinds=[[LABELLED, POSITIVE, AMBIGUOUS]], spread=1.0, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        mine = example.losses()
    example.student, example.teacher = example.student.double(), example.teacher.double()
    for narrow, wide in zip(mine, example.losses(), strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=1e-5)


@pytest.mark.parametrize("dice", ["published", "present", None])
def test_the_sum_over_the_rois_is_their_mean_times_their_number(dice):
    """A worked case: two labelled ROIs that the patch contains, whose terms are added instead of averaged."""
    example = Example(8, kinds=[[LABELLED, LABELLED, POSITIVE], [LABELLED, AMBIGUOUS, NEGATIVE]])
    labelled = example.decisions.labelled
    mean, total = (
        supervised_loss(example.student, example.targets, labelled, SupervisedLoss(dice=dice, over_rois=how))
        for how in ("mean", "sum")
    )
    assert total.tolist() == pytest.approx([2 * float(mean[0]), float(mean[1])])
