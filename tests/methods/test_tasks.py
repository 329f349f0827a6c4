"""The tasks of the paper's methods: which view goes where, and the whole loss against a naive composition."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.config.method_settings import Teacher, TeacherScheduleSettings
from pipeline_lib.config.methods import Method
from pipeline_lib.data.batches import Batch
from pipeline_lib.methods.build import TASKS, build_task
from pipeline_lib.methods.hermes.settings import Hermes
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.methods.lacuna.settings import Lacuna
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.methods.mean_teacher.settings import MeanTeacher
from pipeline_lib.methods.segmentation_task import Ingredients
from pipeline_lib.methods.taught_student import TaughtStudent
from tests.support.volume_labels import label_bits

SHAPE = (3, 4, 2)
ROIS = ("liver", "kidney", "spleen", "colon")
SHARED = {"network": "tiny", "encoder": "words"}
METHODS = {
    "baseline": LabelsAlone(kind="labels_alone", **SHARED),
    "mean_teacher": MeanTeacher(kind="mean_teacher", consistency_weight=0.5, **SHARED),
    "without_mse": LatentClass(kind="latent_class", consistency=False, **SHARED),
    "latent_class": LatentClass(kind="latent_class", latent_weight=0.7, consistency_weight=3.0, **SHARED),
    "exclusive_mean_teacher": MeanTeacher(kind="mean_teacher", exclusive_organs=True, **SHARED),
    "exclusive": LatentClass(kind="latent_class", exclusive_organs=True, **SHARED),
}
STRUCTURE = {"liver": "liver", "kidney": "kidney", "spleen": "spleen", "colon": "liver"}  # as if in the liver


class Scaled(nn.Module):
    """Logits of ROI k are the image times weight k: simple enough to be written out."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float64))

    def forward(self, image):
        return image * self.weights[:, None, None, None]


class Scorer(nn.Module):
    """Existence scores that tell which image was scored."""

    def forward(self, image):
        return image.mean((1, 2, 3, 4)).sigmoid()[:, None].expand(-1, len(ROIS))


def make_batch(seed=0, order=slice(None)) -> Batch:
    """Two samples with ROIs of every kind; `order` permutes the ROIs."""
    random = np.random.default_rng(seed)
    masks = random.random((2, len(ROIS), *SHAPE)) < 0.4
    labelled = np.array([[True, False, False, False], [False, True, False, True]])
    scores = np.array([[0.0, 0.95, 0.02, 0.5], [0.81, 0.9, 0.79, 0.05]], np.float32)
    planes = label_bits(masks[:, order])
    weak, strong = random.normal(size=(2, 2, 1, *SHAPE))
    return Batch(
        ("one", "two"),
        torch.tensor(weak),
        torch.tensor(strong),
        planes,
        torch.tensor(labelled[:, order].copy()),
        torch.tensor(scores[:, order].copy()),
    )


def make_task(method, weights=(1.0, -2.0, 0.5, 3.0), teacher=(0.3, 2.0, -1.0, 1.5), scorer=None, rois=ROIS):
    structures = tuple((STRUCTURE[roi],) for roi in rois)
    task = build_task(
        method,
        Ingredients(
            new_network=lambda: Scaled(weights), rois=rois, structures=structures, teacher=Teacher(), scorer=scorer
        ),
    )
    if "teacher" in task.predictors():
        task.predictors()["teacher"].weights.copy_(torch.tensor(teacher))
    return task


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def naive_total(batch: Batch, method: Method, weights, teacher) -> list[float]:
    """Eq. 1 to 4 in the paper's words, a sample, a ROI and a voxel at a time, with means over the ROIs."""
    totals = []
    for sample in range(2):
        terms = {"supervised": [], "latent": [], "consistency": []}
        for k in range(len(ROIS)):
            students = [sigmoid(weights[k] * value) for value in batch.strong[sample].flatten().tolist()]
            teachers = naive_teacher(batch, sample, k, teacher, method)
            truth = batch.labels[sample, k].flatten().tolist()
            score, labelled = float(batch.scores[sample, k]), bool(batch.labelled[sample, k])
            squares = [(p - q) ** 2 for p, q in zip(students, teachers, strict=True)]
            if labelled:
                entropy = [-math.log(p if t else 1 - p) for p, t in zip(students, truth, strict=True)]
                overlap = sum(p for p, t in zip(students, truth, strict=True) if t)
                dice = 2 * overlap / (sum(students) + sum(truth) + 1)
                terms["supervised"].append(np.mean(entropy) + 1 - dice)
            elif (score > 0.8 or score < 0.1) and method.kind == "latent_class":
                sharp = [q**10 / (q**10 + (1 - q) ** 10) for q in teachers]
                entropy = [-y * math.log(p) - (1 - y) * math.log(1 - p) for p, y in zip(students, sharp, strict=True)]
                terms["latent"].append(np.mean(entropy))
            elif not score > 0.8 and not score < 0.1 and method.kind == "latent_class" and method.consistency:
                terms["consistency"].append(np.mean(squares))
            if method.kind == "mean_teacher":
                terms["consistency"].append(np.mean(squares))
        supervised, latent, consistency = (np.mean(values) if values else 0.0 for values in terms.values())
        w_latent, w_consistency = (getattr(method, f"{term}_weight", 0.0) for term in ("latent", "consistency"))
        totals.append(supervised + w_latent * latent + w_consistency * consistency)
    return totals


def naive_teacher(batch: Batch, sample, k, teacher, method: Method) -> list[float]:
    """The teacher's probabilities of ROI k; with `exclusive_organs` never above what another organ leaves."""
    found = []
    for voxel, value in enumerate(batch.weak[sample].flatten().tolist()):
        own = highest = sigmoid(teacher[k] * value)
        for j, other in enumerate(ROIS):
            if getattr(method, "exclusive_organs", False) and STRUCTURE[other] != STRUCTURE[ROIS[k]]:
                labelled, label = batch.labelled[sample, j], batch.labels[sample, j].flatten()[voxel]
                rival = float(label) if labelled else sigmoid(teacher[j] * value)
                surer = rival > (0.0 if batch.labelled[sample, k] else own)
                highest = min(highest, 1 - rival) if surer else highest
        own_label = bool(batch.labels[sample, k].flatten()[voxel]) and bool(batch.labelled[sample, k])
        found.append(own if own_label else highest)
    return found


def test_the_table_of_tasks_has_every_kind_of_method():
    kinds = get_args(get_args(Method)[0])
    assert set(TASKS) == set(kinds)
    assert all(TASKS[kind].__name__ == f"{kind.__name__}Task" for kind in kinds)


def test_the_methods_whose_teachers_teach_are_those_that_say_when():
    of_teachers = {kind for kind, task in TASKS.items() if issubclass(task, TaughtStudent)}
    assert of_teachers == {kind for kind in TASKS if issubclass(kind, TeacherScheduleSettings)}
    assert Hermes not in of_teachers, "it predicts with its moving average, which teaches nothing"


@pytest.mark.parametrize("name", METHODS)
def test_the_terms_and_counts_are_those_that_the_method_names(name):
    task = make_task(METHODS[name])
    losses = task.losses(task.networks, make_batch(), 0.0)
    assert set(losses.terms) == set(task.terms) <= set(METHODS[name].terms)
    assert ("positive" in losses.counts) == METHODS[name].needs_existence
    assert ("teacher" in task.predictors()) == METHODS[name].needs_teacher


@pytest.mark.parametrize("name", METHODS)
def test_the_whole_loss_is_the_papers(name):
    weights, teacher = (1.0, -2.0, 0.5, 3.0), (0.3, 2.0, -1.0, 1.5)
    task, batch = make_task(METHODS[name], weights, teacher), make_batch()
    found = task.losses(task.networks, batch, progress=0.0).total
    np.testing.assert_allclose(found.detach(), naive_total(batch, METHODS[name], weights, teacher), rtol=1e-6)


@pytest.mark.parametrize(
    "method",
    [*(method for method in METHODS.values() if method.needs_teacher), Lacuna(kind="lacuna", **SHARED)],
    ids=lambda method: method.kind,
)
def test_the_teacher_sees_a_batch_before_the_student_does(method):
    """Its pass would otherwise be on top of all that the student keeps for backward: a sixth more memory."""
    task, passes = make_task(method), []
    for which, network in task.predictors().items():
        network.register_forward_hook(lambda *_, which=which: passes.append(which))
    task.losses(task.networks, make_batch(), progress=0.0)
    assert passes == ["teacher", "student"]


@pytest.mark.parametrize("name", ["without_mse", "latent_class"])
def test_a_labelled_roi_never_learns_from_the_teacher(name):
    """Whatever the teacher says of it, and whatever its score: neither the loss nor a gradient changes."""
    batch, seen = make_batch(), []
    for teacher in ((0.3, 2.0, -1.0, 1.5), (-40.0, 2.0, -1.0, 1.5)):
        task = make_task(METHODS[name], teacher=teacher)
        losses = task.losses(task.networks, batch, 0.0)
        losses.total[0].backward()
        seen.append((losses.total[0].item(), task.student.weights.grad.tolist()))
    assert seen[0] == seen[1]
    # The second sample does not label this ROI, so there it does learn from the teacher.
    totals = [make_task(METHODS[name], teacher=teacher) for teacher in ((0.3, 2.0, -1.0, 1.5), (-40.0, 2.0, -1.0, 1.5))]
    first, second = (task.losses(task.networks, batch, 0.0).total[1].item() for task in totals)
    assert first != second


def test_an_unlabelled_roi_is_not_background():
    """Its targets' bits, set or not, change nothing; nor does it enter Eq. 1's mean."""
    task, batch = make_task(METHODS["baseline"]), make_batch()
    before = task.losses(task.networks, batch, 0.0).total
    unlabelled = ~batch.labelled
    flipped = batch.planes.clone()
    for sample, roi in unlabelled.nonzero().tolist():
        flipped[sample, 0] ^= 1 << roi
    after = task.losses(task.networks, Batch(*(vars(batch) | {"planes": flipped}).values()), 0.0).total
    assert torch.equal(before, after)
    before.sum().backward()
    alone = make_batch()
    alone.labelled[:] = False
    silent = make_task(METHODS["baseline"])
    silent.losses(silent.networks, alone, 0.0).total.sum().backward()
    assert torch.count_nonzero(silent.student.weights.grad) == 0
    assert task.student.weights.grad[2] == 0  # the spleen is labelled nowhere


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_the_rois_does_not_matter(name):
    order = [2, 0, 3, 1]
    weights, teacher = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.3, 2.0, -1.0, 1.5])
    plain = make_task(METHODS[name], weights, teacher)
    permuted = make_task(METHODS[name], weights[order], teacher[order], rois=tuple(ROIS[k] for k in order))
    found = [
        task.losses(task.networks, batch, 0.0)
        for task, batch in ((plain, make_batch()), (permuted, make_batch(order=order)))
    ]
    torch.testing.assert_close(found[1].total, found[0].total)
    for kind, counts in found[0].counts.items():
        assert torch.equal(found[1].counts[kind], counts[:, order])


def test_scores_come_from_the_weak_view_where_they_are_online():
    batch = make_batch()
    batch.weak[0], batch.weak[1] = 5.0, -5.0
    batch.strong[:] = 0.0
    task = make_task(METHODS["latent_class"], scorer=Scorer())
    counts = task.losses(task.networks, batch, 0.0).counts
    assert counts["positive"][0].tolist() == [False, True, True, True]
    assert counts["negative"][1].tolist() == [True, False, True, False]
    assert not counts["ambiguous"].any()


def test_before_the_warm_up_ends_the_teacher_is_not_heard():
    method = METHODS["latent_class"].model_copy(update={"warmup_fraction": 0.5})
    task, batch = make_task(method), make_batch()
    labels_alone = make_task(METHODS["baseline"])
    early, baseline = (each.losses(each.networks, batch, 0.49).total for each in (task, labels_alone))
    assert torch.equal(early, baseline)
    assert (task.losses(task.networks, batch, 0.5).total > baseline).all()


def test_labels_alone_tells_a_network_with_parts_for_each_data_set_which_one_a_sample_is_of():
    class Told(Scaled):
        answers_per_data_set = True

        def forward(self, image, datasets):
            return super().forward(image) * (1 + datasets)[:, None, None, None, None]

    weights = (1.0, -2.0, 0.5, 3.0)
    batch = make_batch()
    told = Batch(*(vars(batch) | {"datasets": ("spleens", "livers")}).values())
    ingredients = Ingredients(
        new_network=lambda: Told(weights),
        rois=ROIS,
        structures=tuple((STRUCTURE[roi],) for roi in ROIS),
        teacher=Teacher(),
        scorer=None,
        datasets=("livers", "spleens"),
    )
    task = build_task(METHODS["baseline"], ingredients)
    found = task.losses(task.networks, told, 0.0).total.detach()
    plain = naive_total(batch, METHODS["baseline"], weights, weights)
    doubled = naive_total(batch, METHODS["baseline"], tuple(2 * weight for weight in weights), weights)
    np.testing.assert_allclose(found, [doubled[0], plain[1]], rtol=1e-6)
