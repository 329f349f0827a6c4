"""Unknown voxels teach nothing, whatever the method, except what a method teaches of unlabelled ROIs."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline_lib.config.method_settings import LeafMethodSettings, SupervisedLoss, Teacher
from pipeline_lib.config.methods import Method
from pipeline_lib.data.batches import Batch
from pipeline_lib.methods.build import build_task
from pipeline_lib.methods.conemos.task import drawn_rois
from pipeline_lib.methods.cutmix import draw_box
from pipeline_lib.methods.segmentation_task import Ingredients
from tests.support.partial_labels import ROIS, STRUCTURES, agreeing, chances, drawn, sets_of_rois, voxels
from tests.support.volume_labels import label_bits

SHAPE = (3, 4, 2, 3, 2)
SHARED = {"network": "n", "encoder": "e"}
KINDS = {get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in get_args(get_args(Method)[0])}
OF_LEAVES = [name for name, kind in KINDS.items() if issubclass(kind, LeafMethodSettings)]
OF_SIGMOIDS = [name for name in KINDS if name not in OF_LEAVES]
BATCH_DICE = {
    name: {"dice": "batch"} if "dice" in kind.model_fields else {"supervised": SupervisedLoss(dice="batch")}
    for name, kind in KINDS.items()
    if {"dice", "supervised"} & kind.model_fields.keys()
}
VARIANTS = [
    *((name, {}) for name in KINDS),
    *BATCH_DICE.items(),
    *(("labels_alone", {"supervised": SupervisedLoss(dice=form, over_rois="sum")}) for form in ("present", None)),
    *((name, {"exclusive_organs": True}) for name in ("latent_class", "mean_teacher")),
]
seeds = st.integers(0, 2**32)


class Logits(nn.Module):
    """Its images have a channel of logits for each ROI, which are its features too."""

    feature_channels = len(ROIS)

    def __init__(self):
        super().__init__()
        self.without_effect = nn.Parameter(torch.zeros(()))

    def forward(self, image, rois=None, with_features=False):
        if with_features:
            return image, image
        return image if rois is None else image[torch.arange(len(rois)), rois][:, None]


class Example:
    """Three samples: of some labelled ROIs no voxel is unknown, of some many are, and of some all."""

    def __init__(self, seed, whole_voxels=False):
        random = np.random.default_rng(seed)
        _, self.labels, self.labelled = drawn(seed)
        self.labelled |= torch.tensor(random.random((3, 4)) < 0.4)
        unknown = random.random(SHAPE) < random.choice([0.0, 0.4, 1.0], (3, 4, 1, 1, 1))
        if whole_voxels:
            unknown |= random.random((3, 1, 2, 3, 2)) < 0.4
        self.unknown = torch.tensor(unknown) & self.labelled[:, :, None, None, None]
        self.known = self.labelled[:, :, None, None, None] & ~self.unknown
        self.labels &= ~self.unknown
        self.student, self.teacher = torch.tensor(random.normal(0, 2, (2, *SHAPE)))
        self.scores = torch.tensor(random.choice([0.02, 0.5, 0.95], (3, 4)))

    @property
    def batch(self):
        planes, unknown = (label_bits(part) for part in (self.labels, self.unknown))
        return Batch(
            names=("a", "b", "c"),
            weak=self.teacher,
            strong=self.student.clone().requires_grad_(),
            planes=planes,
            labelled=self.labelled,
            scores=self.scores,
            unknown=unknown,
            datasets=("x", "y", "x"),
            samples=(7, 8, 9),
        )


@cache
def task_of(name, **keys):
    ingredients = Ingredients(
        new_network=Logits, rois=ROIS, structures=STRUCTURES, teacher=Teacher(), scorer=None, seed=5
    )
    return build_task(KINDS[name](kind=name, **SHARED, **keys), ingredients)


def losses_of(name, batch, progress, term=None, **keys):
    """The losses of each sample, and the gradient of their sum, or of that of one term, by the logits."""
    task = task_of(name, **keys)
    losses = task.losses(task.networks, batch, progress)
    (losses.total if term is None else losses.terms[term]).sum().backward()
    return losses, batch.strong.grad


def labels_alone_of(name):
    """What leaves nothing but what labels teach of their own ROI, while progress is 0.

    The teacher of `lacuna` teaches from the first step, with weights that no key lowers.
    """
    kind = KINDS[name]
    chosen = {"implicit_labelling": {"label_exclusion_weight": 0.0}, "lacuna": {"term": "supervised"}}
    return chosen.get(name, {}) | ({"warmup_fraction": 0.5} if "warmup_fraction" in kind.model_fields else {})


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_without_labels_teaches_the_methods_that_say_so_and_no_other(name):
    example = Example(4)
    example.labelled[:], example.known[:], example.unknown[:] = False, False, False
    _, gradient = losses_of(name, example.batch, 1.0)
    # The lower bound would learn that nothing is there; its settings say why it is not given such samples.
    if name != "background":
        assert gradient.any() == KINDS[name](kind=name, **SHARED).learns_without_labels
    assert KINDS[name](kind=name, **SHARED, start_from="model.safetensors").learns_without_labels
    assert not KINDS["background"](kind="background", **SHARED).learns_without_labels


@pytest.mark.parametrize(("name", "keys"), VARIANTS)
def test_stored_labels_of_unknown_voxels_are_never_read(name, keys):
    example, other = Example(3), Example(3)
    other.labels = other.labels | other.unknown
    assert not torch.equal(example.labels, other.labels)
    (one, gradient), (two, other_gradient) = (losses_of(name, each.batch, 1.0, **keys) for each in (example, other))
    assert torch.equal(one.total, two.total)
    assert torch.equal(gradient, other_gradient)
    assert all(torch.equal(count, two.counts[key]) for key, count in one.counts.items())


@pytest.mark.parametrize(("name", "keys"), VARIANTS)
@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_where_all_is_known_the_loss_is_that_without_unknown_voxels(name, keys, seed):
    batch = Example(seed).batch
    everywhere = replace(batch, unknown=torch.zeros_like(batch.planes))
    plain = replace(batch, unknown=None, strong=batch.strong.detach().clone().requires_grad_())
    assert everywhere.known is not None
    (one, gradient), (two, other_gradient) = (losses_of(name, each, 1.0, **keys) for each in (everywhere, plain))
    torch.testing.assert_close(one.total, two.total)
    torch.testing.assert_close(gradient, other_gradient)
    assert all(torch.equal(count, two.counts[key]) for key, count in one.counts.items())


@pytest.mark.parametrize("name", OF_SIGMOIDS)
@pytest.mark.parametrize("seed", range(4))
def test_labels_give_no_gradient_to_a_roi_where_it_is_unknown(name, seed):
    example = Example(seed)
    _, gradient = losses_of(name, example.batch, 0.0, **labels_alone_of(name))
    assert torch.count_nonzero(gradient[example.unknown]) == 0
    assert torch.count_nonzero(gradient[example.known]) > 0


@pytest.mark.parametrize("name", OF_LEAVES)
@pytest.mark.parametrize("seed", range(4))
def test_a_softmax_learns_nothing_where_no_label_is_known(name, seed):
    example = Example(seed, whole_voxels=True)
    nothing = ~example.known.any(1, keepdim=True).expand(SHAPE)
    assert nothing.any()
    _, gradient = losses_of(name, example.batch, 0.0)
    assert torch.count_nonzero(gradient[nothing]) == 0
    assert torch.count_nonzero(gradient[~nothing]) > 0


@pytest.mark.parametrize("name", KINDS)
def test_a_case_that_labels_nothing_or_nothing_for_sure_learns_nothing_from_labels(name):
    example = Example(1)
    example.labelled[0], example.labelled[1] = False, True
    example.unknown[0], example.unknown[1] = False, True
    example.known[:2] = False
    losses, gradient = losses_of(name, example.batch, 0.0, **labels_alone_of(name))
    # The lower bound takes what is not labelled for background.
    nothing = [1] if name == "background" else [0, 1]
    assert torch.count_nonzero(gradient[nothing]) == 0
    assert torch.count_nonzero(gradient[2]) > 0
    assert torch.isfinite(losses.total).all()


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def entropy(z, target):
    return -math.log(sigmoid(z if target else -z))


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def overlap(p, y):
    """Soft Dice with one voxel in the denominator."""
    return 2 * sum(a * b for a, b in zip(p, y, strict=True)) / (sum(p) + sum(y) + 1)


def equation_1(z, y):
    return mean(map(entropy, z, y)) + 1 - overlap([sigmoid(each) for each in z], y)


def at(example, b, k, where):
    """Logits and labels of a ROI at the voxels `where`, a bool D H W."""
    return example.student[b, k][where].tolist(), example.labels[b, k][where].tolist()


def naive_background(example, b):
    of_rois = []
    for k in range(4):
        where = example.known[b, k] if example.labelled[b, k] else torch.ones(SHAPE[2:], dtype=torch.bool)
        z, y = at(example, b, k, where)
        if z:
            of_rois.append(equation_1(z, y if example.labelled[b, k] else [False] * len(z)))
    return mean(of_rois)


def naive_conemos(example, b):
    told = example.known.flatten(2).any(2)
    if not told[b].any():
        return 0.0
    k = int(drawn_rois(told, 5, (7, 8, 9))[b])
    return equation_1(*at(example, b, k, example.known[b, k]))


def naive_hermes(example, b):
    entropies, losses = [], []
    for k in range(4):
        z, y = at(example, b, k, example.known[b, k])
        if not z:
            continue
        entropies.append(mean(map(entropy, z, y)))
        tp = sum(sigmoid(a) for a, t in zip(z, y, strict=True) if t)
        fp = sum(sigmoid(a) for a, t in zip(z, y, strict=True) if not t)
        fn = sum(sigmoid(-a) for a, t in zip(z, y, strict=True) if t)
        alpha = min(max(fp / (fp + fn + 1e-6), 0.2), 0.8)
        losses.append(1 - tp / (tp + alpha * fp + (1 - alpha) * fn + 1e-6))
    return mean(entropies) + mean(losses)


class OfLeaves:
    """A sample a voxel at a time: chances of the sets of ROIs, labels, and which ROIs are known."""

    def __init__(self, example, b):
        self.likely = [chances(of_rois) for of_rois in voxels(example.student[b])]
        self.truth, self.known = voxels(example.labels[b]), voxels(example.known[b])
        self.possible = [agreeing(y, told) for y, told in zip(self.truth, self.known, strict=True)]
        self.told = [any(of_voxels) for of_voxels in zip(*self.known, strict=True)]

    def cross_entropy(self):
        return mean(
            -math.log(sum(likely[leaf] for leaf in possible))
            for likely, possible, told in zip(self.likely, self.possible, self.known, strict=True)
            if any(told)
        )

    def of_roi(self, k):
        return [sum(chance for leaf, chance in voxel.items() if k in leaf) for voxel in self.likely]


def naive_target_adaptive(example, b):
    return OfLeaves(example, b).cross_entropy()


def naive_leaf_dice(example, b):
    sample = OfLeaves(example, b)
    whole = [
        all(known or not told for known, told in zip(of_rois, sample.told, strict=True)) for of_rois in sample.known
    ]
    dice = []
    for leaf in sets_of_rois():
        p = [voxel[leaf] for voxel, kept in zip(sample.likely, whole, strict=True) if kept]
        y = [float(sets == [leaf]) for sets, kept in zip(sample.possible, whole, strict=True) if kept]
        dice.append(2 * np.dot(p, y) / (np.dot(p, p) + sum(y) + 1e-5))
    return sample.cross_entropy() + 1 - mean(dice)


def naive_marginal_exclusion(example, b):
    sample = OfLeaves(example, b)
    dice, exclusion = [], []
    for k, own in enumerate(STRUCTURES):
        rivals = [j for j, other in enumerate(STRUCTURES) if not set(own) & set(other)]
        every = list(zip(sample.of_roi(k), sample.truth, sample.known, strict=True))
        if sample.told[k]:
            of_known = [(p, truth[k]) for p, truth, known in every if known[k]]
            dice.append(1 - overlap(*zip(*of_known, strict=True)))
        pairs = []
        for p, truth, known in every:
            as_rival = any(truth[j] and known[j] for j in rivals)
            if known[k]:
                pairs.append((p, not truth[k]))
            elif as_rival or (not sample.told[k] and any(known)):
                pairs.append((p, as_rival))
        if (sample.told[k] or any(sample.told[j] for j in rivals)) and not all(sample.told):
            exclusion.append(overlap(*zip(*pairs, strict=True)))
    return sample.cross_entropy() + mean(dice) + 2 * mean(exclusion)


NAIVE = {
    "background": naive_background,
    "conemos": naive_conemos,
    "hermes": naive_hermes,
    "target_adaptive": naive_target_adaptive,
    "leaf_dice": naive_leaf_dice,
    "marginal_exclusion": naive_marginal_exclusion,
}


@pytest.mark.parametrize("name", NAIVE)
@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_the_loss_equals_a_loop_over_known_voxels(name, seed):
    example = Example(seed)
    losses, _ = losses_of(name, example.batch, 0.0)
    expected = [NAIVE[name](example, b) for b in range(3)]
    np.testing.assert_allclose(losses.total.detach(), expected, atol=1e-9)


def naive_target(example, b, k, voxel):
    """What ROI k of sample b is taught to be at a voxel: its label, or what the teacher says."""
    if example.known[b, k][voxel]:
        return bool(example.labels[b, k][voxel])
    rivals = [j for j, other in enumerate(STRUCTURES) if not set(STRUCTURES[k]) & set(other)]
    if any(example.labels[b, j][voxel] for j in rivals if example.known[b, j][voxel]):
        return False
    highest = max((example.teacher[b, j][voxel] for j in rivals if not example.known[b, j][voxel]), default=-math.inf)
    own = example.teacher[b, k][voxel]
    return bool(own >= 0 and own >= highest)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_pseudo_labels_of_mixed_samples_stand_where_labels_are_unknown(seed):
    example = Example(seed)
    losses, _ = losses_of("ltuda_cda", example.batch, 1.0, mixed_views=1)
    told = example.known.flatten(2).any(2)
    for b in range(3):
        after, inside = (b + 1) % 3, np.zeros(SHAPE[2:], bool)
        inside[draw_box(SHAPE[2:], 5, (7, 8, 9)[b], 0)] = True
        pseudo, mixed = [], 0.0
        for voxel in np.ndindex(*SHAPE[2:]):
            source = after if inside[voxel] else b
            for k in range(4):
                z = float(example.student[source, k][voxel])
                pseudo.append(entropy(z, naive_target(example, source, k, voxel)))
                if example.known[source, k][voxel]:
                    mixed += entropy(z, bool(example.labels[source, k][voxel])) / inside.size
        assert losses.terms["pseudo"][b].item() == pytest.approx(mean(pseudo))
        assert losses.terms["mixed"][b].item() == pytest.approx(mixed / max(int((told[b] | told[after]).sum()), 1))
        of_rois = [equation_1(*at(example, b, k, example.known[b, k])) for k in range(4) if told[b, k]]
        assert losses.terms["supervised"][b].item() == pytest.approx(mean(of_rois))
