"""A network as an ONNX graph, and what ONNX Runtime makes of it beside PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files import atomic_write
from ..networks.exported_form import ExportedForm

IMAGE, PROBABILITIES = "image", "probabilities"
"""Names of the graph's input and output."""
TOLERANCE = 1 / 510
"""How far a probability may be off PyTorch's: half a step of the bytes as which predictions are kept."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_SEED = 0

Shape5 = tuple[int, int, int, int, int]


def check_packages() -> None:
    """Raise UserError if a package that writes or checks ONNX files is not installed."""
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        remedy = f"install them with `pip install {' '.join(_PACKAGES)}`"
        raise UserError("--onnx", f"needs packages that are not installed: {', '.join(missing)}", remedy)


def write_graph(
    network: nn.Module,
    to_probabilities: Callable[[Tensor], Tensor],
    shape: Shape5,
    out: Path,
) -> float:
    """Write `network` (in eval mode, changed in place) for images of `shape` 1 1 D H W, all in one file.

    Returns how far the probabilities of ONNX Runtime are off PyTorch's at most, on an image of noise.

    Raises UserError if the network has operations that cannot be exported, or if they are off by more than `TOLERANCE`.
    """
    generator = torch.Generator().manual_seed(_SEED)
    image = torch.rand(shape, generator=generator) * 2 - 1
    with torch.inference_mode():
        expected = to_probabilities(network(image)).numpy()
    form = ExportedForm(network, to_probabilities)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                form, (image,), dynamo=True, verbose=False, input_names=[IMAGE], output_names=[PROBABILITIES]
            )
    except torch.onnx.errors.OnnxExporterError as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError("--onnx", f"cannot export this network ({said})", "give away the model file itself") from error
    assert program is not None
    with atomic_write(out) as partial:
        program.save(partial, external_data=False)
        off = float(np.abs(run_graph(partial, image.numpy()) - expected).max())
        if not off <= TOLERANCE:
            wrong = f"gives probabilities in ONNX Runtime that are off by {off:.2g}, more than {TOLERANCE:.2g}"
            raise UserError("--onnx", wrong, "give away the model file itself")
    return off


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, of which there can be hundreds; whether its graph is right is checked after."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def run_graph(path: Path, image: np.ndarray) -> np.ndarray:
    """Probabilities 1 K D H W of `image` (float32, 1 1 D H W) by ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run([PROBABILITIES], {IMAGE: image})[0]
