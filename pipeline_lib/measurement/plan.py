"""What a config's trainings need on a card, and what of it to set: everything here is reckoned, nothing measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..config.method_checks import check_methods
from ..config.method_settings import MethodSettings
from ..config.networks import Network
from ..config.schema import Config
from ..config.validation import cases_of_method
from ..data.crops import unlabelled_within_share
from ..errors import UserError
from .advice import Fit, advised, equal_parts, largest_patch
from .cards import Card
from .fingerprint import Fingerprint, fingerprint
from .sizes import Shape, StepSizes, can_be_reckoned, step_of

PRESET_MEMORY_GIB = (11, 16, 24, 40, 80)


@dataclass(frozen=True)
class Plan:
    """What is advised for a config on a card. `steps` are those of the networks that could be reckoned, by name."""

    config: Config
    card: Card
    gpus: int
    data: Fingerprint | None
    steps: dict[str, StepSizes]
    patch: Shape
    fit: Fit
    not_reckoned: tuple[str, ...]


def plan(config: Config, card: Card, gpus: int, folder: Path) -> Plan:
    """The advice for the compared methods' networks on `gpus` of such cards; the data are looked for in `folder`.

    Raises UserError if no network can be reckoned, if the GPUs do not share the batch evenly, or if no patch fits.
    """
    batch_size = config.segmentation.batch_size
    if batch_size % gpus:
        wrong = f"{gpus} GPUs do not share a batch of {batch_size} evenly"
        raise UserError("--gpus", wrong, "name a divisor of `segmentation.batch_size`")
    names = dict.fromkeys(config.methods[run.method].network for run in config.trainings)
    steps = {
        name: _step(config, config.networks[name], gpus) for name in names if can_be_reckoned(config.networks[name])
    }
    if not steps:
        wrong = f"compares {', '.join(names)} only, which are not reckoned"
        raise UserError("config: compare", wrong, "add a method with swin_unetr or dodnet")
    data = fingerprint(config, folder)
    # Twice the same step, of networks that differ in their heads alone, is reckoned once.
    distinct = list(dict.fromkeys(steps.values()))
    allowed = [parts for parts in equal_parts(batch_size // gpus) if _accepts(config, parts)]
    patch = largest_patch(distinct, card, _volume(data), allowed)
    smaller = [] if patch is None else [replace(sizes, patch=patch) for sizes in distinct]
    fit = advised(smaller, card, allowed) if patch is not None else None
    if patch is None or fit is None:
        wrong = f"no patch of these networks fits {card.gib:g} GiB by estimate"
        raise UserError("--gpu-memory", wrong, "take a smaller network or a larger card")
    seconds = dict(zip(distinct, fit.seconds, strict=True))
    peaks = dict(zip(distinct, fit.peaks, strict=True))
    ordered = fit._replace(
        peaks=tuple(peaks[sizes] for sizes in steps.values()),
        seconds=tuple(seconds[sizes] for sizes in steps.values()),
    )
    left_out = tuple(name for name in names if name not in steps)
    return Plan(config, card, gpus, data, steps, patch, ordered, left_out)


def _accepts(config: Config, parts: int) -> bool:
    """Whether every method that is compared can do with so many parts; some need samples together."""
    execution = config.execution.model_copy(update={"gradient_accumulation_steps": parts})
    try:
        check_methods(config.model_copy(update={"execution": execution}))
    except ValueError:
        return False
    return True


def _step(config: Config, network: Network, gpus: int) -> StepSizes:
    batch_size, datasets = config.segmentation.batch_size // gpus, len(config.datasets.partially_labelled)
    return step_of(network, config.patches.shape, batch_size, len(config.rois), datasets, config.execution)


def _volume(data: Fingerprint | None) -> Shape | None:
    if data is None:
        return None
    x, y, z = (round(side) for side in data.size_voxels)
    return z, y, x


def steps_of(config: Config, method: MethodSettings, fold: int | None = None) -> int:
    """Steps of one training of `method`, of a fold where there are some, as data.crops.CropPlan counts them."""
    learned = cases_of_method(config, method, fold)
    unlabelled = sum(len(config.dataset(name).unlabelled_cases.intersection(cases)) for name, cases in learned.items())
    labelled = sum(map(len, learned.values())) - unlabelled
    cases = labelled + unlabelled_within_share(labelled, unlabelled, method.unlabelled_share)
    return -(-config.segmentation.epochs * cases // config.segmentation.batch_size)
