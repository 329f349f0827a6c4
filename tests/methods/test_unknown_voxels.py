"""Voxels whose label is unknown: no term of Eq. 1 reads them, and the teacher's terms treat them as unlabelled."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline_lib.config.existence import DecisionRule
from pipeline_lib.config.method_settings import DiceForm, SupervisedLoss, Teacher
from pipeline_lib.data.batches import Batch
from pipeline_lib.methods.build import build_task
from pipeline_lib.methods.exclusive_organs import exclusive_logits
from pipeline_lib.methods.implicit_labelling.task import exclusion_loss
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.methods.segmentation_task import Ingredients
from pipeline_lib.methods.supervised_loss import supervised_loss
from pipeline_lib.methods.teacher_losses import consistency_loss, latent_loss
from tests.support.volume_labels import label_bits

RIVALS = ((1, 2), (0, 2), (0, 1))
SHAPE = (2, 3, 1, 2, 3)
seeds = st.integers(0, 2**32)


class Example:
    """Random logits, targets, and which voxels of which ROI are known; some ROIs are labelled, some partly."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.student, self.teacher = torch.tensor(rng.normal(0, 3, (2, *SHAPE)))
        self.labelled = torch.tensor(rng.random(SHAPE[:2]) < 0.7)
        open_share = rng.choice([0.0, 0.4, 1.0], SHAPE[:2])
        is_open = torch.tensor(rng.random(SHAPE) < open_share[:, :, None, None, None])
        self.known = self.labelled[:, :, None, None, None] & ~is_open
        self.targets = torch.tensor(rng.random(SHAPE) < 0.3) & self.known

    def voxels(self, b, k, of_teacher=False):
        """(logit, logit of the teacher or target, whether the label is known) of each voxel."""
        maps = (self.student, self.teacher if of_teacher else self.targets, self.known)
        return list(zip(*(part[b, k].flatten().tolist() for part in maps), strict=True))


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def mean(values):
    return sum(values) / len(values) if values else 0.0


def naive_supervised(example, form):
    values = []
    for b in range(SHAPE[0]):
        of_rois = []
        for k in range(SHAPE[1]):
            told = [(z, t) for z, t, known in example.voxels(b, k) if known]
            if not told:
                continue
            entropy = mean([-math.log(sigmoid(z)) if t else -math.log(1 - sigmoid(z)) for z, t in told])
            overlap = sum(sigmoid(z) * t for z, t in told)
            size = sum(sigmoid(z) + t for z, t in told)
            smoothing = 1.0 if form == "smoothed" else 0.0
            of_rois.append(entropy + 1 - (2 * overlap + smoothing) / (size + 1))
        values.append(mean(of_rois))
    return values


@pytest.mark.parametrize("form", ["published", "smoothed"])
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_labels_teach_at_known_voxels_alone(form, seed):
    example = Example(seed)
    found = supervised_loss(
        example.student, example.targets, example.labelled, SupervisedLoss(dice=form), example.known
    )
    np.testing.assert_allclose(found, naive_supervised(example, form), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", [None, "published", "smoothed_100", "batch", "present"])
def test_what_stands_at_unknown_voxels_changes_neither_loss_nor_gradient(form: DiceForm | None):
    example, changed = Example(5), Example(5)
    changed.student = torch.where(changed.known, changed.student, -changed.student + 1)
    changed.targets = torch.where(changed.known, changed.targets, ~changed.targets)
    results = []
    for each in (example, changed):
        student = each.student.clone().requires_grad_()
        loss = supervised_loss(student, each.targets, each.labelled, SupervisedLoss(dice=form), each.known)
        loss.sum().backward()
        results.append((loss.detach(), student.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert torch.count_nonzero(results[0][1][~example.known]) == 0
    assert torch.count_nonzero(results[0][1][example.known]) > 0


@pytest.mark.parametrize("form", [None, "published", "smoothed_100", "batch", "present"])
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_batch_in_which_all_is_known_has_the_loss_of_one_without_unknown_voxels(form, seed):
    example = Example(seed)
    everywhere = example.labelled[:, :, None, None, None].expand(SHAPE)
    arguments = example.student, example.targets, example.labelled, SupervisedLoss(dice=form)
    torch.testing.assert_close(supervised_loss(*arguments, everywhere), supervised_loss(*arguments))
    teacher = example.student, example.teacher, ~example.labelled
    torch.testing.assert_close(latent_loss(*teacher, 0.3, ~everywhere), latent_loss(*teacher, 0.3))
    torch.testing.assert_close(consistency_loss(*teacher, ~everywhere), consistency_loss(*teacher))
    exclusion = example.student, example.targets, example.labelled, RIVALS
    torch.testing.assert_close(exclusion_loss(*exclusion, everywhere), exclusion_loss(*exclusion))


def naive_teacher(example, selected, value):
    """The mean over all voxels and ROIs of a sample that are selected and not known."""
    return [
        mean(
            [
                value(z, teacher)
                for k in range(SHAPE[1])
                if selected[b, k]
                for z, teacher, known in example.voxels(b, k, of_teacher=True)
                if not known
            ]
        )
        for b in range(SHAPE[0])
    ]


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_the_teacher_teaches_where_labels_do_not(seed):
    example = Example(seed)
    selected = torch.tensor(np.random.default_rng(seed + 1).random(SHAPE[:2]) < 0.6)

    def cross_entropy(z, teacher):
        target = sigmoid(teacher / 0.5)
        return -target * math.log(sigmoid(z)) - (1 - target) * math.log(1 - sigmoid(z))

    latent = latent_loss(example.student, example.teacher, selected, 0.5, ~example.known)
    np.testing.assert_allclose(latent, naive_teacher(example, selected, cross_entropy), rtol=1e-6, atol=1e-9)
    squares = naive_teacher(example, selected, lambda z, teacher: (sigmoid(z) - sigmoid(teacher)) ** 2)
    consistency = consistency_loss(example.student, example.teacher, selected, ~example.known)
    np.testing.assert_allclose(consistency, squares, rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_a_label_of_one_organ_is_a_negative_of_another_where_that_is_unknown(seed):
    example = Example(seed)
    expected = []
    for b in range(SHAPE[0]):
        values = []
        for k in range(SHAPE[1]):
            if not any(example.labelled[b, j] for j in RIVALS[k]):
                continue
            for voxel, (z, _, known) in enumerate(example.voxels(b, k)):
                rival = any(example.voxels(b, j)[voxel][1] for j in RIVALS[k])
                values += [] if known else [rival * -math.log(1 - sigmoid(z))]
        expected.append(mean(values))
    found = exclusion_loss(example.student, example.targets, example.labelled, RIVALS, example.known)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_an_unknown_voxel_is_not_taken_for_background_by_a_rival():
    """The teacher is sure of organ 1 at both voxels; organ 0 is labelled absent at the first and unknown at the second.

    At the first its teacher says present by mistake, but the label keeps its −1000; at the second organ 0 is as sure as
    its teacher, 2 against 5, so it is lowered to −5, and organ 1, surer, keeps its 5.
    """
    logits = torch.tensor([2.0, 2.0, 5.0, 5.0]).reshape(1, 2, 1, 1, 2)
    labels = torch.zeros(1, 2, 1, 1, 2, dtype=torch.bool)
    labelled, known = torch.tensor([[True, False]]), torch.zeros_like(labels)
    known[0, 0, ..., 0] = True
    lowered = exclusive_logits(logits, labels, labelled, ((1,), (0,)), known)
    assert lowered.flatten().tolist() == [-5.0, -5.0, 5.0, 5.0]
    # Were organ 0 surer where it is unknown, its rival would be lowered; where it is labelled absent it would not.
    logits = torch.tensor([9.0, 9.0, 5.0, 5.0]).reshape(1, 2, 1, 1, 2)
    lowered = exclusive_logits(logits, labels, labelled, ((1,), (0,)), known)
    assert lowered.flatten().tolist() == [-5.0, 9.0, 5.0, -9.0]


class Fixed(nn.Module):
    """Logits that do not depend on the image."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, image):
        return self.logits


def batch_of(example, scores) -> Batch:
    planes, unknown = (
        label_bits(part) for part in (example.targets, example.labelled[:, :, None, None, None] & ~example.known)
    )
    image = torch.zeros(SHAPE[0], 1, *SHAPE[2:], dtype=torch.float64)
    return Batch(("a", "b"), image, image, planes, example.labelled, scores, unknown)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_the_whole_loss_decides_on_each_roi_by_its_score_or_by_the_part_that_is_labelled(seed):
    example, rng = Example(seed), np.random.default_rng(seed)
    scores = torch.tensor(rng.choice([0.02, 0.5, 0.95], SHAPE[:2]))
    batch = batch_of(example, scores)
    assert torch.equal(batch.known, example.known)
    method = LatentClass(kind="latent_class", network="tiny", encoder="none", decision=DecisionRule())
    ingredients = Ingredients(
        new_network=lambda: Fixed(example.student),
        rois=("a", "b", "c"),
        structures=(("a",), ("b",), ("c",)),
        teacher=Teacher(),
        scorer=None,
    )
    task = build_task(method, ingredients)
    task.teacher.network.logits.data = example.teacher.clone()
    losses = task.losses(task.networks, batch, 1.0)
    there = torch.tensor(
        [[any(t for _, t, known in example.voxels(b, k) if known) for k in range(3)] for b in range(2)]
    )
    latent = there | (scores != 0.5)
    temperature = method.sharpening_temperature

    def cross_entropy(z, teacher):
        target = sigmoid(teacher / temperature)
        return -target * math.log(sigmoid(z)) - (1 - target) * math.log(1 - sigmoid(z))

    expected = {
        "supervised": naive_supervised(example, method.supervised.dice),
        "latent": naive_teacher(example, latent, cross_entropy),
        "consistency": naive_teacher(example, ~latent, lambda z, teacher: (sigmoid(z) - sigmoid(teacher)) ** 2),
    }
    for term, values in expected.items():
        np.testing.assert_allclose(losses.terms[term].detach(), values, rtol=1e-6, atol=1e-9, err_msg=term)
    sorted_rois = sum(losses.counts[name].int() for name in ("labelled", "positive", "negative", "ambiguous"))
    assert (sorted_rois == 1).all(), "the history counts each ROI of each sample once"


def test_presence_is_known_where_enough_voxels_are_or_none_is_open():
    """ROI 0: one known voxel of it, others open: there. ROI 1: none, one open: unknown. ROI 2: none, all known."""
    example = Example(0)
    example.labelled = torch.ones(SHAPE[:2], dtype=torch.bool)
    example.targets, example.known = torch.zeros(SHAPE, dtype=torch.bool), torch.ones(SHAPE, dtype=torch.bool)
    example.targets[:, 0, 0, 0, 0] = True
    example.known[:, 0, 0, 1], example.known[:, 1, 0, 0, 0] = False, False
    present, known = batch_of(example, torch.zeros(SHAPE[:2])).presence(1)
    assert present.tolist() == [[True, False, False]] * 2
    assert known.tolist() == [[True, False, True]] * 2
    present, known = batch_of(example, torch.zeros(SHAPE[:2])).presence(2)
    assert (present.any().item(), known.tolist()) == (False, [[False, False, True]] * 2)
