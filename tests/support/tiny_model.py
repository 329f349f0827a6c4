"""A model file with a tiny network, student and teacher, whose masks have both values."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline_lib.config.volumes import Patches
from pipeline_lib.methods.mean_teacher.settings import MeanTeacher
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.model_file import save_model
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr

ROIS = ("liver", "liver_tumor", "spleen")
WINDOW_HU = (-200.0, 300.0)
PATCHES = Patches(size_voxels=(64, 32, 32))
METHOD = MeanTeacher(kind="mean_teacher", network="small", encoder="some")
NETWORK = SwinUnetr(kind="swin_unetr", feature_size=12, depths=(1, 1, 1, 1), window_size=2)


def network(seed: int, rois: tuple[str, ...] = ROIS) -> torch.nn.Module:
    torch.manual_seed(seed)
    built = build_segmentation_network(NETWORK, torch.randn(len(rois), 5), rois)
    # A fresh network is about as sure of every voxel; these weights make masks with both values.
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(1.5)
    return built.eval()


def describe(rois: tuple[str, ...] = ROIS) -> dict[str, object]:
    """What the file says of itself."""
    return {
        "method": METHOD.model_dump(mode="json"),
        "network": NETWORK.model_dump(mode="json"),
        "rois": rois,
        "patches": PATCHES.model_dump(mode="json"),
        "spacing_mm": (3.0, 3.0, 3.0),
        "window_hu": WINDOW_HU,
    }


def write_tiny_model(path: Path, seed: int = 1, rois: tuple[str, ...] = ROIS, **more: object) -> Path:
    """Write the model with the student of `seed` and the teacher of the next; `more` is added to its description."""
    student, teacher = network(seed, rois), network(seed + 1, rois)
    teacher.load_state_dict(teacher.state_dict() | {"embeddings": student.state_dict()["embeddings"]})
    save_model(path, student, {**describe(rois), **more}, teacher)
    return path
