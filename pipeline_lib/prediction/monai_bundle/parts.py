"""What a bundle's config is made of where MONAI's own parts would not give the same masks to the last voxel.

MONAI's would resample with other kernels and grids, put windows elsewhere and blend them with other weights, and hold
K float32 channels of the whole volume. Each part here is a step of `lacuna predict`. They pass on a dict for each CT,
as MONAI's dictionary transforms have it, but "image" and "pred" are not tensors: a batch cannot be made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import blosc2
from torch import nn

from ...errors import UserError
from ...files import atomic_folder, make_writable
from ...inference.sliding_window import SlidingWindow, window_count
from ...progress import Progress, say
from ...version import version
from ..confidence import advice
from ..ct import Ct, find_cases, read_ct
from ..memory import check_memory
from ..model import Model, Options, load_models
from ..output import FORMATS, Format, Wanted, check_formats, check_source, write_segmentation
from ..segmentation import Segmentation
from ..volume import Volume, probabilities_in, volume_of

IMAGE, PRED, CASE = "image", "pred", "case"
"""Keys of a CT's dict."""

Item = Mapping[str, Any]


def load_model(
    file: str,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    overlap: float | None = None,
    flip_tta: bool | None = None,
) -> Model:
    """The model in `file`; what is None is as the file says. Raises UserError if it is not a usable model."""
    options = Options(device=device, precision=precision, overlap=overlap, flip_tta=flip_tta)
    model = load_models([Path(file)], options)
    for note in model.notes:
        say(f"note: {note}")
    return model


def cases(path: str, output_dir: str) -> list[dict[str, str]]:
    """An item for each CT in `path`, which is one or a folder of some.

    Raises UserError if there is none, or if `output_dir` holds a folder of the name of one.
    """
    found = find_cases(Path(path))
    for case in found:
        if (Path(output_dir) / case).exists():
            raise UserError(str(Path(output_dir) / case), "is there already", "name another --output_dir")
    make_writable(Path(output_dir), "name another --output_dir")
    return [{CASE: case, IMAGE: str(file)} for case, file in found.items()]


class LoadCT:
    """Path → CT in HU, from any format that `lacuna predict` reads, whatever its axes."""

    def __init__(self, allow_other_units: bool = False) -> None:
        self.allow_other_units = allow_other_units

    def __call__(self, item: Item) -> dict[str, Any]:
        ct = read_ct(Path(item[IMAGE]), item.get(CASE), self.allow_other_units)
        for note in ct.notes:
            say(f"{item[IMAGE]}: note: {note}")
        return {**item, IMAGE: ct}


class ToVolume:
    """CT → its voxels of `spacing_mm` (x, y, z) in the canonical frame, clipped to `window_hu`."""

    def __init__(self, spacing_mm: Sequence[float], window_hu: Sequence[float]) -> None:
        (x, y, z), (low, high) = spacing_mm, window_hu
        self.spacing_mm, self.window_hu = (x, y, z), (low, high)

    def __call__(self, item: Item) -> dict[str, Any]:
        ct: Ct = item[IMAGE]
        return {**item, IMAGE: volume_of(ct, self.spacing_mm, self.window_hu)}


class WindowInferer:
    """Volume → probabilities of all ROIs on its grid (uint8 K D H W, compressed), window by window."""

    def __init__(self, window: SlidingWindow, roi_count: int) -> None:
        self.window, self.roi_count = window, roi_count

    def __call__(self, inputs: Volume, network: nn.Module) -> blosc2.NDArray:
        """Raises UserError if there is certainly too little memory."""
        check_memory(inputs, self.roi_count, self.window)
        progress = Progress(f"predict {inputs.ct.name}", window_count(inputs.grid.shape, self.window), "windows")
        return probabilities_in(inputs, network, self.roi_count, self.window, progress.advance)


class ToMasks:
    """Probabilities → masks on the CT's own grid, post-processed as the model wants it."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __call__(self, item: Item) -> dict[str, Any]:
        return {**item, PRED: self.model.segmentation(item[IMAGE], item[PRED])}


class WriteMasks:
    """Masks → files in `output_dir`/CASE, as `lacuna predict` writes them."""

    def __init__(self, output_dir: str, roi_count: int, formats: Format | Sequence[Format] = ("labels",)) -> None:
        """Raises UserError for an unknown format, one into which so many ROIs do not fit, or a missing package."""
        names = (formats,) if isinstance(formats, str) else tuple(formats)
        for name in names:
            if name not in FORMATS:
                raise UserError("--formats", f"{name} is not a format", f"choose from {', '.join(FORMATS)}")
        self.output_dir, self.wanted = Path(output_dir), Wanted(names)
        check_formats(self.wanted, roi_count)

    def __call__(self, item: Item) -> Item:
        """Raises UserError if a format refers to DICOM slices and the CT has none."""
        segmentation: Segmentation = item[PRED]
        check_source(self.wanted, segmentation.ct)
        with atomic_folder(self.output_dir / segmentation.ct.name) as folder:
            found = write_segmentation(segmentation, folder, self.wanted, version())
        if doubt := advice(found):
            say(f"{segmentation.ct.name}: {doubt}")
        return item


class Evaluator:
    """Runs inference and post-processing over a data set, a CT at a time. MONAI's makes batches, and needs ignite."""

    def __init__(
        self, dataset: Iterable[Item], network: nn.Module, inferer: WindowInferer, postprocessing: Any
    ) -> None:
        self.dataset, self.network, self.inferer, self.postprocessing = dataset, network, inferer, postprocessing

    def run(self) -> None:
        for item in self.dataset:
            self.postprocessing({**item, PRED: self.inferer(item[IMAGE], self.network)})
