"""Prototypes of classes: assignment, cost and movement against worked examples and loops over voxels in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline_lib.methods.prototypes import assigned, class_loss, moved, prototype_loss, shares
from pipeline_lib.networks.prototype_head import EMBEDDING_SIZE, PrototypeHead
from tests.support.prototypes import naive_class_loss, naive_head, naive_moved, naive_prototype_loss, naive_shares


def cosines_of(*numerators):
    """Cosines of one class whose exp(cosine / 0.05) are these numbers: 1 voxel a row."""
    return 0.05 * torch.tensor(numerators, dtype=torch.float64).log()[:, None]


def test_worked_shares():
    """40 + 10 and 1 + 4 voxels' worth: over the sums 50 and 5 the rows are 4/5, 1/5 and 1/5, 4/5, of sum 1 already.

    Both voxels are nearer to the first prototype, but each gets one of its own.
    """
    cosines, classes = cosines_of([40, 1], [10, 4]), torch.tensor([0, 0])
    np.testing.assert_allclose(shares(cosines, classes), [[0.8, 0.2], [0.2, 0.8]], atol=1e-12)
    assert assigned(cosines, classes).tolist() == [0, 1]


def test_classes_are_divided_apart_and_numbered_one_after_another():
    """Alone in its class, a voxel is divided evenly, whatever it is near to: the prototypes' sums are alike."""
    cosines = torch.zeros(3, 2, 2, dtype=torch.float64)
    cosines[:2, 1], cosines[2, 0] = cosines_of([40, 1], [10, 4])[:, 0], torch.tensor([0.9, -0.9])
    classes = torch.tensor([1, 1, 0])
    np.testing.assert_allclose(shares(cosines, classes), [[0.8, 0.2], [0.2, 0.8], [0.5, 0.5]], atol=1e-12)
    assert assigned(cosines, classes).tolist()[:2] == [2, 3]


def test_worked_losses():
    """Scores ln 3 and 0 are chances of 3/4 and 1/4; cosines 1 and 0 are e/(e + 1) and 1/(e + 1) among all."""
    cosines = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(1, 2, 1).expand(2, 2, 1)
    scores = torch.tensor([math.log(3), 0.0], dtype=torch.float64).expand(2, 2)
    assert class_loss(scores, torch.tensor([0, 1])).tolist() == pytest.approx([math.log(4 / 3), math.log(4)])
    near, far = math.log1p(math.exp(-1)), math.log1p(math.e)
    found = prototype_loss(cosines, torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx([0.01 * near, 0.01 * far + 0.001])


def test_worked_movement():
    """(1, 0) follows two voxels of mean direction (0, 1) half of the way; a prototype without voxels stays."""
    bank = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    voxels = torch.tensor([[0.6, 0.8], [-0.6, 0.8]], dtype=torch.float64)
    found = moved(bank, voxels, torch.tensor([0, 0]), 0.5)
    np.testing.assert_allclose(found[0], [[math.sqrt(0.5), math.sqrt(0.5)], [0, 1]], atol=1e-12)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(moved(bank, voxels[:0], nothing, 0.5), bank)


@pytest.mark.parametrize("count", [1, 3])
def test_everything_equals_a_loop_over_voxels(count):
    random = np.random.default_rng(count)
    bank, voxels = random.normal(size=(4, count, 5)), random.normal(size=(30, 5))
    bank, voxels = (values / np.linalg.norm(values, axis=-1, keepdims=True) for values in (bank, voxels))
    scores, classes = random.normal(size=(30, 4)), random.choice([0, 1, 3], 30)
    cosines = np.einsum("ne,lpe->nlp", voxels, bank)
    expected = naive_shares(cosines, classes)
    tensors = torch.tensor(cosines), torch.tensor(classes)
    np.testing.assert_allclose(shares(*tensors), expected, atol=1e-12)
    prototypes = [k * count + int(np.argmax(row)) for k, row in zip(classes, expected, strict=True)]
    assert assigned(*tensors).tolist() == prototypes
    of_classes = [naive_class_loss(scores[n], classes[n]) for n in range(30)]
    np.testing.assert_allclose(class_loss(torch.tensor(scores), tensors[1]), of_classes)
    belonging = torch.tensor(prototypes)
    costs = [naive_prototype_loss(cosines[n], prototypes[n]) for n in range(30)]
    np.testing.assert_allclose(prototype_loss(tensors[0], belonging), costs)
    found = moved(torch.tensor(bank), torch.tensor(voxels), belonging, 0.9)
    np.testing.assert_allclose(found, naive_moved(bank, voxels, prototypes, 0.9), atol=1e-12)


def test_the_head_places_voxels_on_a_sphere_and_scores_classes_by_their_nearest_prototypes():
    torch.manual_seed(0)
    head, features = PrototypeHead(3, 4).double(), torch.randn(20, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    banks = torch.nn.functional.normalize(torch.randn(2, 4, 3, EMBEDDING_SIZE, dtype=torch.float64), dim=3)
    found = [values.detach() for values in head(features, banks)]
    for values, expected in zip(found, naive_head(head, features, banks), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-12)
    # Nothing that evaluation would read: the batch norm has no memory.
    assert not list(head.buffers())
