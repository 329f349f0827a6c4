"""LTUDA: `ltuda_cda` at first, then prototypes of its features too, against a loop over the voxels that are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline_lib.config.method_settings import Teacher
from pipeline_lib.methods.build import build_task
from pipeline_lib.methods.cutmix import draw_box
from pipeline_lib.methods.ltuda.settings import Ltuda
from pipeline_lib.methods.ltuda.task import LtudaTask
from pipeline_lib.methods.ltuda.voxels import classes_of, drawn_places
from pipeline_lib.methods.ltuda_cda.settings import LtudaCda
from pipeline_lib.methods.segmentation_task import Ingredients
from tests.support.partial_labels import LEAVES, Scaled, drawn_batch, naive_target, task_of
from tests.support.prototypes import naive_class_loss, naive_head, naive_moved, naive_prototype_loss, naive_shares
from tests.support.tiny_training import ROIS as TINY_ROIS
from tests.support.tiny_training import Tiny, TinyNetwork, assert_same_weights
from tests.support.volume_labels import label_bits

SHARED = {"network": "n", "encoder": "e"}
SHAPE = (2, 3, 2)
SEED = 11
BANKS = ("labelled_prototypes", "unlabelled_prototypes")
TEACHER = torch.tensor([0.5, 1.0, -2.0, 1.5])


def ltuda(**keys) -> Ltuda:
    return Ltuda(kind="ltuda", **SHARED, **keys)


def example(seed, **keys) -> tuple[LtudaTask, object]:
    """A task in double precision, whose teacher is not its student, and a batch."""
    torch.manual_seed(seed)
    task = task_of(ltuda(prototypes_per_class=2, **keys), seed=SEED)
    task.networks["head"].double()
    task.banks = task.banks.double()
    task.predictors()["teacher"].weights.copy_(TEACHER)
    return task, drawn_batch(seed, torch.tensor(np.random.default_rng(100 + seed).normal(size=(3, 1, *SHAPE))))


def naive_voxels(batch, view, places):
    """Of each drawn voxel of a mixed copy: its sample, the image's value, its class (None: no leaf), whether labelled.

    `places` are the drawn voxels of each sample.
    """
    labels, labelled = batch.labels, batch.labelled
    teacher = batch.weak * TEACHER[:, None, None, None]
    for b in range(3):
        inside = np.zeros(SHAPE, bool)
        inside[draw_box(SHAPE, SEED, batch.samples[b], view)] = True
        for voxel in places[b]:
            source = (b + 1) % 3 if inside[voxel] else b
            rois = tuple(k for k in range(4) if naive_target(source, k, voxel, teacher, labels, labelled))
            in_label = any(labelled[source, k] and labels[source, k][voxel] for k in range(4))
            yield b, float(batch.strong[source, 0][voxel]), LEAVES.index(rois) if rois in LEAVES else None, in_label


@pytest.mark.parametrize(("seed", "views", "count"), [(2, 2, 100), (5, 1, 100), (6, 2, 5)])
def test_both_banks_cost_and_move_as_in_a_loop_over_voxels(seed, views, count):
    task, batch = example(seed, mixed_views=views, prototype_voxels=count, prototype_decay=0.8, prototype_weight=0.7)
    before, found = task.banks.clone(), []
    for view in range(views):
        drawn = torch.stack(drawn_places(SHAPE, count, SEED, batch.samples, view, torch.device("cpu")), 2)
        found += [(view, *each) for each in naive_voxels(batch, view, [[*map(tuple, own)] for own in drawn.tolist()])]
    assert len(found) == views * 3 * min(count, 12)
    features = torch.stack([value * Scaled().weights.detach() for _, _, value, _, _ in found])
    embeddings, cosines, scores = naive_head(task.networks["head"], features, before)
    counted = [n for n, voxel in enumerate(found) if voxel[3] is not None]
    assert 0 < len(counted) < len(found), "labels of rivals overlap somewhere"
    losses = task.losses(task.networks, batch, 0.5)
    task.after_update()
    for place, name in enumerate(BANKS):
        members = []
        for n in counted:
            _, _, _, k, in_label = found[n]
            if not in_label if name == "unlabelled_prototypes" else in_label or k == 0:
                members.append(n)
        assert 0 < len(members) < len(counted)
        shares = naive_shares(cosines[place][members], np.array([found[n][3] for n in members]))
        of_classes, of_prototypes, follow = {}, {}, []
        for n in counted:
            view, b, _, k, _ = found[n]
            of_classes.setdefault((b, view), []).append(naive_class_loss(scores[place][n], k))
        for n, row in zip(members, shares, strict=True):
            view, b, _, k, _ = found[n]
            prototype = 2 * k + int(np.argmax(row))
            of_prototypes.setdefault((b, view), []).append(naive_prototype_loss(cosines[place][n], prototype))
            if np.argmax(scores[place][n]) == k:
                follow.append((embeddings[n], prototype))
        expected = [0.0] * 3
        for costs in (of_classes, of_prototypes):
            for (b, _), own in costs.items():
                expected[b] += sum(own) / len(own)
        np.testing.assert_allclose(losses.terms[name].detach(), expected)
        followed = zip(*follow, strict=True)
        np.testing.assert_allclose(task.banks[place], naive_moved(before[place].numpy(), *followed, 0.8), atol=1e-9)
        assert not torch.equal(task.banks[place], before[place])
    mixing = task_of(LtudaCda(kind="ltuda_cda", mixed_views=views, **SHARED), seed=SEED)
    mixing.predictors()["teacher"].weights.copy_(TEACHER)
    alone = mixing.losses(mixing.networks, batch, 0.5)
    both = losses.terms[BANKS[0]] + losses.terms[BANKS[1]]
    torch.testing.assert_close(losses.total, alone.terms["supervised"] + alone.terms["pseudo"] + 0.7 * both)


def test_a_bank_without_members_classifies_and_stays():
    """All is labelled liver: its voxels belong to the labelled bank, and the other one only scores them."""
    task, batch = example(0, mixed_views=1)
    labels = torch.zeros(3, 4, *SHAPE, dtype=torch.bool)
    labels[:, 0] = True
    planes = label_bits(labels)
    batch = replace(batch, planes=planes, labelled=torch.ones(3, 4, dtype=torch.bool))
    before, liver = task.banks, LEAVES.index((0,))
    losses = task.losses(task.networks, batch, 1.0)
    task.after_update()
    assert torch.equal(task.banks[1], before[1])
    assert not torch.equal(task.banks[0], before[0])
    found = [*naive_voxels(batch, 0, [list(np.ndindex(SHAPE))] * 3)]
    features = torch.stack([value * Scaled().weights.detach() for _, value, _, _ in found])
    _, _, scores = naive_head(task.networks["head"], features, before)
    costs = [naive_class_loss(row, liver) for row in scores[1]]
    np.testing.assert_allclose(losses.terms[BANKS[1]].detach(), np.reshape(costs, (3, -1)).mean(1))


def test_until_prototypes_begin_it_is_ltuda_cda():
    task, batch = example(0, prototypes_after=0.6)
    mixing = task_of(LtudaCda(kind="ltuda_cda", **SHARED), seed=SEED)
    mixing.predictors()["teacher"].weights.copy_(TEACHER)
    before, losses = task.banks, task.losses(task.networks, batch, 0.59)
    assert torch.equal(losses.total, mixing.losses(mixing.networks, batch, 0.59).total)
    assert all(torch.count_nonzero(losses.terms[name]) == 0 for name in BANKS)
    losses.total.sum().backward()
    assert all(parameter.grad is None for parameter in task.networks["head"].parameters())
    later = task.losses(task.networks, batch, 0.6)
    assert set(losses.terms) == set(Ltuda.terms) == set(later.terms)
    assert torch.count_nonzero(losses.terms["mixed"]) > 0
    assert torch.count_nonzero(later.terms["mixed"]) == 0, "prototypes take the place of mixed labels"
    assert torch.equal(task.banks, before), "prototypes move after the step, if there is one"
    task.after_update()
    assert not torch.equal(task.banks, before)


def test_head_and_trunk_learn_from_prototypes_which_no_prediction_needs():
    task, batch = example(3)
    losses = task.losses(task.networks, batch, 1.0)
    (losses.terms[BANKS[0]] + losses.terms[BANKS[1]]).sum().backward()
    for name, parameter in [*task.student.named_parameters(), *task.networks["head"].named_parameters()]:
        assert torch.count_nonzero(parameter.grad) > 0, name
    assert not task.banks.requires_grad
    assert task.predictors().keys() == {"student", "teacher"}
    assert all(isinstance(network, Scaled) for network in task.predictors().values())


def test_autocast_does_not_lower_the_precision_of_prototypes():
    found = []
    for enabled in (False, True):
        task, batch = example(3)
        task.networks["head"].float()
        task.banks = task.banks.float()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = task.losses(task.networks, batch, 1.0)
        task.after_update()
        found.append((losses.terms, task.banks))
    (plain, banks), (cast, banks_of_cast) = found
    assert torch.equal(banks, banks_of_cast)
    assert all(torch.equal(plain[name], cast[name]) for name in BANKS)


def test_a_voxel_is_of_the_one_set_of_rois_that_it_is_taught_to_be_in():
    """The liver, with its tumour, without; background; and liver and spleen at once, which no voxel can be."""
    targets = torch.tensor([[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]]]).bool()
    rois = [None if place < 0 else LEAVES[place] for place in classes_of(targets, LEAVES)[0].tolist()]
    assert rois == [(0,), (0, 1), (), None]


def test_drawn_voxels_are_different_ones_and_keyed_by_sample_and_view():
    def draw(count, samples, view=0):
        axes = drawn_places((4, 5, 6), count, 1, samples, view, torch.device("cpu"))
        return torch.stack(axes, 2).tolist()

    (one, other), (again,) = draw(30, (3, 4)), draw(30, (3,))
    assert one == again
    assert len(set(map(tuple, one))) == 30
    assert one != other
    assert one != draw(30, (3,), view=1)[0]
    assert sorted(map(tuple, draw(1000, (3,))[0])) == list(np.ndindex(4, 5, 6))


def test_prototypes_without_pseudo_labels_are_refused():
    with pytest.raises(ValidationError, match="`prototypes_after` must be at least `warmup_fraction`"):
        ltuda(warmup_fraction=0.3, prototypes_after=0.2)


class TinyNetworkWithFeatures(TinyNetwork):
    feature_channels = 4

    def forward(self, image, with_features=False):
        features = self.layers[:2](image)
        logits = self.layers[2](features)
        return (logits, features) if with_features else logits


@dataclass(frozen=True)
class TinyLtuda(Tiny):
    """Five steps, of which the last two have prototypes."""

    def task(self) -> LtudaTask:
        torch.manual_seed(self.seed)
        structures = tuple((roi,) for roi in TINY_ROIS)
        shared = {"scorer": None, "teacher": Teacher(decay=0.9), "seed": self.seed}
        method = ltuda(prototype_decay=0.9, prototype_voxels=200)
        return build_task(
            method,
            Ingredients(new_network=TinyNetworkWithFeatures, rois=TINY_ROIS, structures=structures, **shared),
        )


def everything(task) -> dict[str, torch.Tensor]:
    networks = {**task.networks, "teacher": task.teacher.network}
    found = {f"{who}.{name}": value for who in networks for name, value in networks[who].state_dict().items()}
    return found | {"banks": task.banks}


def test_a_training_that_resumes_ends_with_the_same_weights_and_prototypes(tiny):
    training = TinyLtuda(tiny.cases, tiny.work / "whole", epochs=4, checkpoint_minutes=10)
    start, whole = everything(training.task()), everything(training.run())
    for name in ("banks", "head.projection.3.weight"):
        assert not torch.equal(start[name], whole[name])

    def interrupt(task) -> None:
        """In the last step's update, when the step before has moved the prototypes."""
        update, calls = task.after_update, []

        def interrupted() -> None:
            calls.append(None)
            if len(calls) == 5:
                raise KeyboardInterrupt
            update()

        task.after_update = interrupted

    struck = replace(training, work=tiny.work / "struck", checkpoint_minutes=1e-9)
    with pytest.raises(KeyboardInterrupt):
        struck.run(interrupt)
    assert_same_weights(everything(struck.run()), whole)
