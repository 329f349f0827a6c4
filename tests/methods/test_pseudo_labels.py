"""What each method's teacher says of unlabelled ROIs, and how it is counted, against loops over voxels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline_lib.methods.lacuna.settings import Lacuna
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.methods.ltuda.settings import Ltuda
from pipeline_lib.methods.ltuda_cda.settings import LtudaCda
from pipeline_lib.methods.mean_teacher.settings import MeanTeacher
from pipeline_lib.methods.pseudo_labels import PseudoLabels, counted
from tests.support.partial_labels import RIVALS, drawn_batch, task_of

SHARED = {"network": "n", "encoder": "e"}
METHODS = {
    "mean_teacher": MeanTeacher(kind="mean_teacher", **SHARED),
    "exclusive": MeanTeacher(kind="mean_teacher", exclusive_organs=True, **SHARED),
    "ltuda_cda": LtudaCda(kind="ltuda_cda", **SHARED),
    "ltuda": Ltuda(kind="ltuda", **SHARED),
    "latent_class": LatentClass(kind="latent_class", **SHARED),
    "without_mse": LatentClass(kind="latent_class", consistency=False, **SHARED),
    "lacuna": Lacuna(kind="lacuna", **SHARED),
}
SCORES = torch.tensor([[0.02, 0.5, 0.95, 0.02], [0.95, 0.95, 0.02, 0.5], [0.5, 0.02, 0.5, 0.95]])
WEIGHTS = (1.0, -2.0, 0.5, 3.0)
"""Of the network of `task_of`: the logit of ROI k is the image times weight k."""


def batch_of(seed, unknown):
    weak = torch.tensor(np.random.default_rng(seed + 5).normal(size=(3, 1, 2, 3, 2)))
    batch = replace(drawn_batch(seed, weak), scores=SCORES)
    if unknown:
        planes = torch.tensor(np.random.default_rng(seed).integers(0, 16, batch.planes.shape, dtype=np.uint8))
        batch = replace(batch, unknown=planes)
    return batch


def is_known(batch, sample, roi, voxel):
    unknown = batch.unknown is not None and batch.unknown[(sample, 0, *voxel)].item() >> roi & 1
    return bool(batch.labelled[sample, roi]) and not unknown


def label(batch, sample, roi, voxel):
    return bool(batch.planes[(sample, 0, *voxel)].item() >> roi & 1)


def naive_target(name, batch, sample, roi, voxel):
    """Whether the teacher says that the voxel, of which the label of `roi` is not known, is in it."""
    logits = [weight * batch.weak[(sample, 0, *voxel)].item() for weight in WEIGHTS]
    if name == "without_mse" and 0.1 <= SCORES[sample, roi] <= 0.8 and not any(seen(batch, sample, roi)):
        return False
    if name in ("mean_teacher", "latent_class", "without_mse"):
        return logits[roi] >= 0
    for rival in RIVALS[roi]:
        known = is_known(batch, sample, rival, voxel)
        if known and label(batch, sample, rival, voxel):
            return False
        if not known and logits[rival] > max(0, logits[roi]):
            return False
    return logits[roi] >= 0


def seen(batch, sample, roi):
    """Whether the known part of the labels shows the ROI, a value for each voxel."""
    for voxel in np.ndindex(*batch.weak.shape[2:]):
        yield is_known(batch, sample, roi, voxel) and label(batch, sample, roi, voxel)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_the_targets_are_those_of_the_naive_loop(name, unknown):
    batch = batch_of(3, unknown)
    pseudo = task_of(METHODS[name]).pseudo_labels(batch)
    left_open = 0
    for sample, roi, *voxel in np.ndindex(*pseudo.masks.shape):
        if not is_known(batch, sample, roi, voxel):
            expected = naive_target(name, batch, sample, roi, voxel)
            assert bool(pseudo.masks[(sample, roi, *voxel)]) == expected, (sample, roi, voxel)
            left_open += 1
    assert left_open > 40
    decided = torch.stack(list(pseudo.decisions.values())).sum(0)
    for sample, roi in np.ndindex(*decided.shape):
        some = any(not is_known(batch, sample, roi, voxel) for voxel in np.ndindex(*batch.weak.shape[2:]))
        assert decided[sample, roi] == some, "one decision for each ROI that is left open somewhere"
    assert set(pseudo.decisions) == (
        {"positive", "negative", "ambiguous"} if name in ("latent_class", "without_mse", "lacuna") else {"unlabelled"}
    )


@pytest.mark.parametrize("unknown", [False, True])
def test_counts_are_those_of_the_naive_loop(unknown):
    batch, random = batch_of(4, unknown), np.random.default_rng(9)
    there, truth = (torch.tensor(random.random((3, 4, 2, 3, 2)) < 0.4) for _ in range(2))
    found = counted(PseudoLabels(there, {}), truth, batch, RIVALS)
    for sample, roi in np.ndindex(3, 4):
        expected = dict.fromkeys(("predicted", "true", "true_positives", "in_rivals"), 0)
        inside = [0] * 4
        for voxel in np.ndindex(2, 3, 2):
            if is_known(batch, sample, roi, voxel):
                continue
            says, holds = bool(there[(sample, roi, *voxel)]), bool(truth[(sample, roi, *voxel)])
            others = [bool(truth[(sample, other, *voxel)]) for other in range(4)]
            expected["predicted"] += says
            expected["true"] += holds
            expected["true_positives"] += says and holds
            if says and not holds:
                expected["in_rivals"] += any(others[rival] for rival in RIVALS[roi])
                inside = [count + other for count, other in zip(inside, others, strict=True)]
        assert {name: getattr(found, name)[sample, roi].item() for name in expected} == expected
        assert found.inside[sample, roi].tolist() == inside
