"""A plan in words, as a config fragment, and as a table for cards of several sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shutil import disk_usage

import yaml

from ..config.schema import Config
from ..tools.disk import bytes_needed, disk_of_all
from .cards import UNKNOWN_RATES, Card, usable_bytes
from .plan import Plan, plan, steps_of

_GIB = 2**30


def lines(made: Plan, card_name: str, folder: Path) -> Iterator[str]:
    """The plan for people: data, card, advice, estimate, time, disk, and what the figures are."""
    config, fit = made.config, made.fit
    yield from _about_data(made)
    usable = usable_bytes(made.card.gib) / _GIB
    yield f"card      {made.gpus} × {card_name}, {made.card.gib:.1f} GiB each; {usable:.1f} GiB are planned with"
    per_gpu = config.segmentation.batch_size // made.gpus
    shown = _product(made.patch[::-1])
    yield (
        f"advice    patch {shown}, batch {config.segmentation.batch_size}, {per_gpu} a GPU in {fit.parts} parts "
        f"(gradient_accumulation_steps), gradient_checkpointing {fit.checkpointing}"
    )
    if made.patch != config.patches.shape:
        yield f"          the config's {_product(config.patches.size_voxels)} does not fit; a smaller patch sees less"
    yield from _about_steps(made)
    yield from _about_disk(config, folder)
    yield (
        "All of this is reckoned, nothing was measured: memory without kernels' workspaces; time as a bound that no "
        "step goes below, of the paper's method (labels alone, without a teacher, take less). "
        "`lacuna selftest` measures."
    )
    if not made.card.has_bfloat16:
        yield "This card has no tensor cores for bfloat16: set `execution: {precision: float16}`, of the same memory."
    for name in made.not_reckoned:
        yield f"Not reckoned: {name}. What is advised for the others may not fit it."
    yield "Nor is the training of the ROI-aware network."


def _about_data(made: Plan) -> Iterator[str]:
    data = made.data
    if data is None:
        yield "data      neither volumes nor raw cases are here yet: from the config alone"
        return
    spacing = _product(made.config.volumes.spacing_mm)
    size = _product(round(side) for side in data.size_voxels)
    yield (
        f"data      {data.cases} cases ({data.source}), medians: {_product(data.spacing_mm)} mm as scanned, "
        f"{size} voxels at the config's {spacing} mm"
    )
    covered = zip(made.patch[::-1], data.size_voxels, strict=True)
    shares = "×".join(f"{100 * min(1, side / whole):.0f}" for side, whole in covered)
    yield f"          the patch covers {shares} % of that"
    if data.volumes_ml:
        yield "          " + ", ".join(f"{roi} {volume:.3g} ml" for roi, volume in data.volumes_ml.items())


def _about_steps(made: Plan) -> Iterator[str]:
    config, hours = made.config, 0.0
    known = made.card.rates != UNKNOWN_RATES
    for name, peak, seconds in zip(made.steps, made.fit.peaks, made.fit.seconds, strict=True):
        bound = f", at least {seconds:.2f} s a step" if known else ", time unknown: this card's rates are"
        yield f"estimate  {name}: {peak / _GIB:.1f} GiB{bound}"
        runs = sum(config.methods[run.method].network == name for run in config.trainings)
        hours += runs * seconds * steps_of(config) / 3600
    runs = sum(config.methods[run.method].network in made.steps for run in config.trainings)
    total = f", at least {hours:.0f} hours" if known else ""
    yield f"training  {runs} trainings of {steps_of(config):,} steps{total}; validation and waiting for data not in it"


def _about_disk(config: Config, folder: Path) -> Iterator[str]:
    sizes = disk_of_all(config).values()
    archives, raw, volumes = (sum(getattr(each, key) for each in sizes) / 1e9 for key in ("archives", "raw", "volumes"))
    needed, free = bytes_needed(config, folder) / 1e9, disk_usage(folder).free / 1e9
    yield (
        f"disk      archives {archives:.1f} GB, raw cases {raw:.1f} GB, volumes {volumes:.1f} GB; "
        f"{needed:.1f} GB still to come, {free:.1f} GB free"
    )


def fragment(made: Plan, card_name: str) -> str:
    """YAML of the keys that are advised, to give after the config."""
    content: dict[str, object] = {
        "execution": {
            "gradient_accumulation_steps": made.fit.parts,
            "gradient_checkpointing": made.fit.checkpointing,
            **({} if made.card.has_bfloat16 else {"precision": "float16"}),
        }
    }
    if made.patch != made.config.patches.shape:
        content["patches"] = {"size_voxels": list(made.patch[::-1])}
    peak = max(made.fit.peaks) / _GIB
    said = f"# By `lacuna plan` for {made.gpus} × {card_name}, {made.card.gib:g} GiB"
    return f"{said}: {peak:.1f} GiB, reckoned and not measured.\n{yaml.safe_dump(content, sort_keys=False)}"


def presets(config: Config, cards: Sequence[tuple[str, Card]], folder: Path) -> Iterator[str]:
    """A Markdown table of what is advised for one card of each memory."""
    yield "| GB | time as of | patch | parts | checkpointing | GiB reckoned | s a step, at least |"
    yield "|---|---|---|---|---|---|---|"
    for name, card in cards:
        made = plan(config, card, 1, folder)
        fit = made.fit
        yield (
            f"| {card.gib:g} | {name} | {_product(made.patch[::-1])} | {fit.parts} | {fit.checkpointing} | "
            f"{max(fit.peaks) / _GIB:.1f} | {max(fit.seconds):.2f} |"
        )


def _product(sides: Iterable[float]) -> str:
    return "×".join(f"{side:.4g}" for side in sides)
