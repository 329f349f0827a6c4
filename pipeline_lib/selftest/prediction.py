"""A model file written, loaded and used as `lacuna predict` does, against one pass of the plain network."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ..config.volumes import Patches
from ..measurement.sizes import SMALL
from ..measurement.steps import METHOD, embeddings_of
from ..networks.build import BuiltNetwork, build_segmentation_network
from ..networks.model_file import save_model
from ..networks.precision import autocast_type
from ..prediction.model import Options, load_models
from .rows import Row, failed, judged

_WINDOW = (-325.0, 325.0)
_SURE, _LEAST_SURE = 0.05, 0.1
"""Distance of a probability from 0.5 at which a voxel is clear; the share of voxels that must be."""
_MOST_WRONG = {"float32": 0.01, "auto": 0.05}
"""The network is random and twists its inputs far more than a trained one, so that rounding shows."""
_ROIS = tuple(f"roi_{k}" for k in range(SMALL.rois))


def check_prediction(device: torch.device) -> Iterator[Row]:
    for precision, most in _MOST_WRONG.items():
        used = str(autocast_type(precision, device, training=False)).removeprefix("torch.")
        title = f"prediction of a small volume, precision {precision} ({used})"
        try:
            started = time.perf_counter()
            off = prediction_error(device, precision)
            seconds = time.perf_counter() - started
            found = f"{100 * off:.3f} % of clear voxels unlike one plain pass in float32, {seconds:.1f} s"
            yield judged(title, off <= most, found)
        except Exception as error:
            yield failed(title, error)


def prediction_error(device: torch.device, precision: str) -> float:
    """The share of voxels of all ROIs that are masked wrongly, of those of which the network is clear.

    The volume is as large as one window. Raises ValueError if the network is clear of too few, or of one side alone.
    """
    network = _network()
    D, H, W = SMALL.patch
    hu = np.random.default_rng(0).normal(0, 150, (D, H, W)).clip(-900, 900).astype(np.int16)
    hu[1, 1:-1, 1:-1] = -1000  # as a CT has air; none at the border, so that the window is the whole volume
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((3.0, 3.0, 3.0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        description = {
            "method": METHOD.model_dump(mode="json"),
            "network": SMALL.network.model_dump(mode="json"),
            "rois": _ROIS,
            "patches": Patches(size_voxels=(W, H, D)).model_dump(mode="json"),
            "spacing_mm": (3.0, 3.0, 3.0),
            "window_hu": _WINDOW,
        }
        save_model(path, network, description)
        found = load_models([path], Options(device=device.type, precision=precision)).predict(image)  # type: ignore[arg-type]
    low, high = _WINDOW
    scaled = torch.from_numpy((hu.clip(low, high).astype(np.float32) - low) * (2 / (high - low)) - 1)
    with torch.inference_mode():
        # The plain network on the processor: neither the fast form for prediction nor the GPU has a part in it.
        expected = torch.sigmoid(network(scaled[None, None])[0]).numpy()
    clear = np.abs(expected - 0.5) > _SURE
    truth = expected > 0.5
    if clear.mean() < _LEAST_SURE or not 0 < truth[clear].mean() < 1:
        raise ValueError("the probabilities to compare with are all alike")
    masks = np.stack([found[name] for name in _ROIS])
    return float((masks != truth)[clear].mean())


def _network() -> BuiltNetwork:
    torch.manual_seed(1)
    network = build_segmentation_network(SMALL.network, embeddings_of(SMALL), _ROIS)
    # A fresh network is about as sure of every voxel; with these weights some are well above and some below.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network.eval()
