"""Drawn partial labels and a network that is easily written out; leaves a voxel at a time, in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import nn

from pipeline_lib.config.method_settings import Teacher
from pipeline_lib.data.batches import Batch
from pipeline_lib.methods.build import build_task
from pipeline_lib.methods.exclusive_organs import exclusive_rois
from pipeline_lib.methods.leaves import leaves_of
from pipeline_lib.methods.segmentation_task import Ingredients

ROIS = ("liver", "liver_tumor", "spleen", "pancreas")
STRUCTURES = (("liver",), ("liver",), ("spleen",), ("pancreas",))
RIVALS = exclusive_rois(STRUCTURES)
LEAVES = leaves_of(RIVALS)


def sets_of_rois(structures=STRUCTURES):
    """All subsets of the ROIs of which every two have a structure in common."""
    rois = range(len(structures))
    subsets = (subset for size in range(len(structures) + 1) for subset in itertools.combinations(rois, size))
    return [
        subset
        for subset in subsets
        if all(set(structures[i]) & set(structures[j]) for i, j in itertools.combinations(subset, 2))
    ]


def chances(logits, structures=STRUCTURES):
    """Set of ROIs → its probability at a voxel with these K logits: independent ROIs, given that the set can be."""
    products = {}
    for subset in sets_of_rois(structures):
        products[subset] = 1.0
        for roi, logit in enumerate(logits):
            products[subset] *= 1 / (1 + math.exp(-logit if roi in subset else logit))
    return {subset: product / sum(products.values()) for subset, product in products.items()}


def agreeing(labels, labelled, structures=STRUCTURES):
    """The sets that agree with a voxel's labels; all of them if none does."""
    sets = sets_of_rois(structures)
    found = [
        subset for subset in sets if all((roi in subset) == labels[roi] for roi in range(len(labels)) if labelled[roi])
    ]
    return found or sets


def voxels(maps):
    """K D H W as a list of voxels, each with K values."""
    return maps.flatten(1).T.tolist()


def drawn(seed):
    """Logits, labels and which ROIs are labelled, for three samples; labels of rivals overlap here and there."""
    random = np.random.default_rng(seed)
    logits = torch.tensor(random.normal(0, 3, (3, 4, 2, 3, 2)))
    return logits, torch.tensor(random.random((3, 4, 2, 3, 2)) < 0.3), torch.tensor(random.random((3, 4)) < 0.4)


class Scaled(nn.Module):
    """Logits of ROI k are the image times weight k; they are the features too."""

    feature_channels = len(ROIS)

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64))

    def forward(self, image, with_features=False):
        logits = image * self.weights[:, None, None, None]
        return (logits, logits) if with_features else logits


def drawn_batch(seed, weak=None):
    """Three samples with drawn images and labels; without a weak view x_T is NaN, so that nothing may read it."""
    _, labels, labelled = drawn(seed)
    image = torch.tensor(np.random.default_rng(seed + 1).normal(size=(3, 1, 2, 3, 2)))
    planes = torch.tensor(np.packbits(labels.numpy(), axis=1, bitorder="little"))
    weak = torch.full_like(image, math.nan) if weak is None else weak
    samples = {"datasets": ("x", "y", "x"), "samples": (7, 8, 9)}
    return Batch(("a", "b", "c"), weak, image, planes, labelled, torch.zeros(3, 4), **samples)


def naive_target(sample, k, voxel, teacher, labels, labelled):
    """What LTUDA teaches ROI k of a sample to be at a voxel; `teacher` are its teacher's logits."""
    if labelled[sample, k]:
        return bool(labels[sample, k][voxel])
    rivals = [j for j, other in enumerate(STRUCTURES) if not set(STRUCTURES[k]) & set(other)]
    if any(labels[sample, j][voxel] for j in rivals if labelled[sample, j]):
        return False
    highest = max((float(teacher[sample, j][voxel]) for j in rivals if not labelled[sample, j]), default=-math.inf)
    own = float(teacher[sample, k][voxel])
    return own >= 0 and own >= highest


def task_of(method, seed=0):
    ingredients = Ingredients(
        new_network=Scaled, rois=ROIS, structures=STRUCTURES, teacher=Teacher(), scorer=None, seed=seed
    )
    return build_task(method, ingredients)


def losses_of(method, seed):
    """The losses of `method` on a drawn batch, and what they were computed from: logits, labels, labelled."""
    task, batch = task_of(method), drawn_batch(seed)
    return task.losses(task.networks, batch, 0.0), Scaled()(batch.strong).detach(), batch.labels, batch.labelled
