"""A plan in words, as a config fragment, and as a table for cards of several sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from ..config.folds import all_folds
from ..config.schema import Config
from .cards import UNKNOWN_RATES, Card
from .fingerprint import Fingerprint
from .plan import Plan, plan, steps_of
from .spacing import ENOUGH_OF_A_VOLUME, coarser_spacing, patch_share

_GIB = 2**30


def lines(made: Plan, card_name: str, disk: str) -> Iterator[str]:
    """The plan for people: data, card, advice, estimate, time, `disk` in words, and what the figures are."""
    config, fit = made.config, made.fit
    yield from _about_data(made)
    usable = made.card.usable_bytes / _GIB
    yield f"card      {made.gpus} × {card_name}, {made.card.gib:.1f} GiB each; {usable:.1f} GiB are planned with"
    per_gpu = config.segmentation.batch_size // made.gpus
    shown = _product(made.patch[::-1])
    yield (
        f"advice    patch {shown}, batch {config.segmentation.batch_size}: {per_gpu} a GPU, "
        f"gradient_accumulation_steps {fit.parts}, gradient_checkpointing {fit.checkpointing}"
    )
    if made.patch != config.patches.shape:
        yield f"          the config's {_product(config.patches.size_voxels)} does not fit; a smaller patch sees less"
    yield from _about_steps(made)
    yield f"disk      {disk}"
    yield (
        "All of this is reckoned, nothing was measured: memory, which was 0 to 5 % too high beside an H100; time as a "
        "bound that no step goes below, and that an H100 missed by a factor of five, of the paper's method (labels "
        "alone, without a teacher, take less). `lacuna selftest` measures."
    )
    yield "With `gradient_accumulation_steps: auto`, the default, a training takes such sizes itself where it runs."
    if not made.card.has_bfloat16:
        yield "This card has no tensor cores for bfloat16: set `execution: {precision: float16}`, of the same memory."
    for name in made.not_reckoned:
        yield f"Not reckoned: {name}. What is advised for the others may not fit it."
    yield "The training of the ROI-aware network is not part of it."


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
    yield from _about_spacing(made, data)
    if data.volumes_ml:
        yield "          " + ", ".join(f"{roi} {volume:.3g} ml" for roi, volume in data.volumes_ml.items())


def _about_spacing(made: Plan, data: Fingerprint) -> Iterator[str]:
    spacing, patch = made.config.volumes.spacing_mm, made.patch[::-1]
    share = patch_share(patch, data.size_voxels)
    coarser, enough = coarser_spacing(spacing, patch, data.size_voxels), f"{100 * ENOUGH_OF_A_VOLUME:.0f} %"
    if coarser == spacing:
        yield f"spacing   {_product(spacing)} mm: a patch holds {100 * share:.0f} % of a median volume"
        return
    yield (
        f"spacing   at {_product(spacing)} mm a patch holds {100 * share:.0f} % of a median volume; at "
        f"{_product(round(side, 1) for side in coarser)} mm it holds {enough} and can tell better "
        "where it is (nnU-Net plans a second, coarser network below that); see docs/evidence.md"
    )


def _about_steps(made: Plan) -> Iterator[str]:
    config, hours = made.config, 0.0
    known = made.card.rates != UNKNOWN_RATES
    for name, peak, seconds in zip(made.steps, made.fit.peaks, made.fit.seconds, strict=True):
        bound = f", at least {seconds:.2f} s a step" if known else ", time unknown: this card's rates are"
        yield f"estimate  {name}: {peak / _GIB:.1f} GiB{bound}"
        hours += seconds * sum(_steps_of_each(config, (name,))) / 3600
    steps = _steps_of_each(config, made.steps)
    least, most = min(steps), max(steps)
    span = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    total = f", at least {hours:.0f} hours ({hours / 24:.1f} days)" if known else ""
    for dataset in config.datasets.partially_labelled:
        if dataset.has_no_labels:
            count = len(dataset.split_cases("train"))
            yield f"no labels {dataset.name}, {count:,} cases: methods that learn from labels alone leave them out"
    yield f"training  {len(steps)} trainings of {span} steps{total}; validation and waiting for data not in it"


def _steps_of_each(config: Config, networks: Collection[str]) -> list[int]:
    """Steps of each training of one of these networks."""
    trained = {name for run in config.trainings if config.methods[name := run.method].network in networks}
    steps = {
        (name, fold): steps_of(config, config.methods[name], fold) for name in trained for fold in all_folds(config)
    }
    return [steps[run.method, run.fold] for run in config.trainings if run.method in trained]


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
