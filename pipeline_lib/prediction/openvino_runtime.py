"""A network computed by OpenVINO on a CPU: the same parameters, the same probabilities up to rounding, in less time.

docs/performance.md says how much less. A network is converted whenever it is loaded; nothing is kept on disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..monai_parts import left_out
from ..networks.exported_form import ExportedForm

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
_AGREES_WITHIN = 0.05
"""Probabilities in float32, on an image of noise; those of a network that was converted wrongly are further off."""
# The package with which OpenVINO's converter reports its use over the internet; it works without it.
_TELEMETRY = "openvino_telemetry"


def check_openvino(device: torch.device, precision: torch.dtype) -> None:
    """Raise UserError if OpenVINO is not installed, or if it does not compute so here."""
    if find_spec("openvino") is None:
        remedy = "install it with `pip install openvino`, or leave out --runtime"
        raise UserError("--runtime", "openvino needs the package openvino, which is not installed", remedy)
    if device.type != "cpu":
        raise UserError("--runtime", "openvino computes on the CPU", "leave out --device cuda, or --runtime")
    if precision not in _HINTS:
        raise UserError("--runtime", f"openvino does not compute in {precision} here", "leave out --precision")


class OpenVinoNetwork(nn.Module):
    """Image B 1 D H W in −1…1 → probabilities B K D H W, float32, for patches of `shape` D H W.

    `network` (in eval mode, on the CPU) is changed in place. In bfloat16 OpenVINO chooses which layers compute in it.

    Raises UserError if its probabilities of an image of noise are not PyTorch's.
    """

    def __init__(
        self,
        network: nn.Module,
        to_probabilities: Callable[[Tensor], Tensor],
        shape: tuple[int, int, int],
        precision: torch.dtype,
    ) -> None:
        super().__init__()
        with left_out(_TELEMETRY):
            import openvino

            image = torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = to_probabilities(network(image))
                traced = torch.jit.trace(ExportedForm(network, to_probabilities), image, check_trace=False)
                model = openvino.convert_model(traced, example_input=image, input=[[1, 1, *shape]])
        # Checked in float32, whose rounding hides nothing; how OpenVINO then computes is only a hint.
        self._compiled = _compiled(model, torch.float32)
        off = (self(image) - expected).abs().max().item()
        if not off <= _AGREES_WITHIN:
            wrong = f"openvino gives probabilities here that are off PyTorch's by {off:.2g}"
            raise UserError("--runtime", wrong, "leave it out, or install another version of openvino")
        if precision != torch.float32:
            self._compiled = _compiled(model, precision)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat(
            [torch.from_numpy(self._compiled([image.contiguous().numpy()])[0]) for image in images.split(1)]
        )


def _compiled(model: Any, precision: torch.dtype) -> Any:
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return openvino.Core().compile_model(model, "CPU", hints)
