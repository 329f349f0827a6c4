"""Cut the config into the settings of the stages.

Snakemake records a slice's file as its rule's parameter, so an edit reruns the stages whose slice it changes. By hand:

    python -m pipeline_lib.config.settings text --configfile config/config.yaml --encoder wordllama
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import whole_file
from ..randomness import random_generator
from .datasets import Dataset, DownloadSource
from .existence import Existence
from .methods import Method, Networks, Teacher
from .optimisation import Execution
from .rois import existence_structures
from .schema import Config, load_config
from .section import Section
from .stage_settings import (
    AcquireEncoderSettings,
    AcquireExecution,
    AcquireSettings,
    CaseListSettings,
    DeleteRawSettings,
    ExecutionSettings,
    ExistenceCheckSettings,
    ExistenceSettings,
    InferenceSettings,
    ReportSettings,
    RoiAwareSettings,
    ScoreSettings,
    SegmentationSettings,
    TextSettings,
    ValidateSettings,
    VolumeSettings,
)
from .structures import structure_names
from .text import TextEncoder
from .training_setup import training_setup


def acquire(config: Config, dataset: str) -> AcquireSettings:
    chosen = config.dataset(dataset)
    phantom = chosen.source.kind == "phantom"
    return AcquireSettings(
        # What is fetched does not depend on these, and fetching again would remake every volume.
        dataset=_regardless_of(chosen, "split", "skip", "doubted", "licence"),
        phantom=config.phantom if phantom else None,
        rois=config.roi_names if phantom else (),
        seed=config.seed if phantom else None,
    )


def acquire_execution(config: Config, dataset: str) -> AcquireExecution:
    return AcquireExecution(skip=config.dataset(dataset).skip, keep_archives=config.storage.keep_archives)


def delete_raw(config: Config, dataset: str) -> DeleteRawSettings:
    chosen = config.dataset(dataset)
    scored = chosen.split_cases("test") if chosen in config.datasets.partially_labelled else ()
    return DeleteRawSettings(dataset=_regardless_of(chosen, "split", "doubted", "licence"), scored_cases=scored)


def volume(config: Config, dataset: str, case: str) -> VolumeSettings:
    chosen = config.dataset(dataset)
    return VolumeSettings(
        dataset=dataset,
        layout=chosen.layout,
        root=chosen.root,
        labels=chosen.labels,
        ignored_labels=chosen.ignored_labels,
        case=case,
        targets=_targets(config, dataset),
        volumes=config.volumes,
    )


def validate(config: Config) -> ValidateSettings:
    datasets = tuple(_regardless_of(dataset, "doubted", "licence") for dataset in config.all_datasets)
    return ValidateSettings(datasets=datasets, targets=tuple(_targets(config, dataset.name) for dataset in datasets))


def case_list(config: Config, dataset: str) -> CaseListSettings:
    chosen = config.dataset(dataset)
    return CaseListSettings(
        train=chosen.split_cases("train"), test=chosen.split_cases("test"), targets=_targets(config, dataset)
    )


def text(config: Config, encoder: str) -> TextSettings:
    return TextSettings(
        rois=config.roi_names,
        texts=tuple(roi.text for roi in config.rois),
        prompt=config.text.prompt,
        name=encoder,
        encoder=_encoder(config, encoder),
        tasks=_tasks(config) if _encoder(config, encoder).kind == "one_hot" else (),
    )


def acquire_encoder(config: Config, encoder: str) -> AcquireEncoderSettings:
    return AcquireEncoderSettings(name=encoder, encoder=_encoder(config, encoder))


def roi_aware(config: Config) -> RoiAwareSettings:
    dataset = _fully_labelled(config)
    return RoiAwareSettings(
        dataset=dataset.name,
        cases=dataset.used_cases,
        structures=structure_names(config.roi_aware.structures),
        roi_aware=config.roi_aware.model_copy(update={"execution": Execution()}),
        patches=config.patches,
        weak=config.augmentation.weak,
        window_hu=config.volumes.window_hu,
        seed=config.seed,
    )


def roi_aware_execution(config: Config) -> ExecutionSettings:
    return ExecutionSettings(execution=config.roi_aware.execution)


def existence(config: Config, dataset: str) -> ExistenceSettings:
    return ExistenceSettings(
        dataset=dataset,
        cases=config.dataset(dataset).split_cases("train"),
        rois=config.roi_names,
        structures=existence_structures(config.rois),
        existence=config.existence,
        patches=config.patches,
        window_hu=config.volumes.window_hu,
        seed=config.seed,
    )


def existence_check(config: Config) -> ExistenceCheckSettings:
    return ExistenceCheckSettings(
        seed=config.seeds[0],
        weak=config.augmentation.weak,
        patches=config.patches,
        existence=config.existence,
        least_voxels=config.roi_aware.least_voxels,
        rules=_decision_rules(config),
        rois=config.roi_names,
        organs=tuple(roi.organ for roi in config.rois),
        structures=existence_structures(config.rois),
        labelled=_labelled(config),
        cases={dataset.name: dataset.split_cases("train") for dataset in config.datasets.partially_labelled},
        window_hu=config.volumes.window_hu,
    )


def segmentation(config: Config, run: str) -> SegmentationSettings:
    training = config.run(run)
    method = config.methods[training.method]
    return SegmentationSettings(
        run=run,
        seed=training.seed,
        method=method,
        # Defaults stand for what the method does not use, so that editing it trains the others only.
        networks=Networks(**{method.network: getattr(config.networks, method.network)}),
        teacher=config.teacher if method.needs_teacher else Teacher(),
        optimisation=config.segmentation,
        augmentation=config.augmentation,
        patches=config.patches,
        existence=config.existence if method.needs_existence else Existence(),
        rois=config.roi_names,
        structures=existence_structures(config.rois),
        labelled=_labelled(config),
        cases={
            dataset.name: _learned_cases(dataset, method, training.seed)
            for dataset in config.datasets.partially_labelled
        },
        spacing_mm=config.volumes.spacing_mm,
        window_hu=config.volumes.window_hu,
    )


def segmentation_execution(config: Config) -> ExecutionSettings:
    return ExecutionSettings(execution=config.execution)


def inference(config: Config, run: str, dataset: str) -> InferenceSettings:
    return InferenceSettings(
        run=run,
        dataset=dataset,
        cases=config.dataset(dataset).split_cases("test"),
        inference=config.inference,
    )


def scores(config: Config, run: str) -> ScoreSettings:
    return ScoreSettings(
        run=run,
        rois=config.roi_names,
        datasets=tuple(
            _regardless_of(dataset, "doubted", "licence")
            for dataset in config.datasets.partially_labelled
            if dataset.split_cases("test")
        ),
        scores=config.scores,
    )


def report(config: Config) -> ReportSettings:
    return ReportSettings(
        rois=config.roi_names,
        runs=tuple((run.name, run.method, run.seed) for run in config.runs),
        methods={run.method: config.methods[run.method] for run in config.runs},
        datasets=config.all_datasets,
        scores=config.scores,
        structures=existence_structures(config.rois),
        setup=training_setup(config),
        fingerprint=_digest(*_what_results_depend_on(config)),
    )


SLICES: dict[str, Callable[..., Section]] = {
    "acquire": acquire,
    "acquire_execution": acquire_execution,
    "delete_raw": delete_raw,
    "volume": volume,
    "validate": validate,
    "case_list": case_list,
    "acquire_encoder": acquire_encoder,
    "text": text,
    "roi_aware": roi_aware,
    "roi_aware_execution": roi_aware_execution,
    "existence": existence,
    "existence_check": existence_check,
    "segmentation": segmentation,
    "segmentation_execution": segmentation_execution,
    "inference": inference,
    "scores": scores,
    "report": report,
}


def settings_file(stage: str, config: Config, **wildcards: str) -> str:
    """Write the slice of `stage` under work/settings/ and return the file's path, in which its content is hashed.

    So the path stands for the content: as a rule's parameter it changes when, and only when, the settings do.
    """
    section = SLICES[stage](config, **wildcards)
    content = section.model_dump_json(indent=2) + "\n"
    digest = _digest(section)
    path = Path("work") / "settings" / stage / f"{'-'.join((*wildcards.values(), digest))}.json"
    if not path.exists():
        with whole_file(path) as partial:
            partial.write_text(content, encoding="utf-8")
    return str(path)


def _what_results_depend_on(config: Config) -> Iterator[Section]:
    """Slices of all stages; not how trainings are executed, nor methods that are not compared."""
    for dataset in config.all_datasets:
        yield from (acquire(config, dataset.name), case_list(config, dataset.name))
    yield config.volumes
    for encoder in dict.fromkeys(config.methods[run.method].encoder for run in config.runs):
        yield text(config, encoder)
    if config.datasets.fully_labelled is not None:
        yield roi_aware(config)
    yield from (segmentation(config, run.name) for run in config.runs)
    yield from (config.inference, config.scores)


def _digest(*sections: Section) -> str:
    return hashlib.sha256("".join(f"{each.model_dump_json(indent=2)}\n" for each in sections).encode()).hexdigest()[:12]


def _regardless_of(dataset: Dataset, *keys: str) -> Dataset:
    """The data set as it is whatever these keys say, and whatever sizes only the check of the disk reads."""
    anything: dict[str, Any] = {"split": "all_training", "skip": (), "doubted": (), "licence": ""}
    update = {key: anything[key] for key in keys}
    if isinstance(dataset.source, DownloadSource):
        files, per_case = (
            tuple(file.model_copy(update={"about_gb": None}) for file in part)
            for part in (dataset.source.files, dataset.source.per_case)
        )
        update["source"] = dataset.source.model_copy(update={"files": files, "per_case": per_case})
    return dataset.model_copy(update=update)


def _targets(config: Config, dataset: str) -> tuple[str, ...]:
    full = config.datasets.fully_labelled
    if full is not None and dataset == full.name:
        return structure_names(config.roi_aware.structures)
    return config.roi_names


def _labelled(config: Config) -> dict[str, tuple[str, ...]]:
    datasets = config.datasets.partially_labelled
    return {dataset.name: tuple(sorted(dataset.labels, key=config.roi_names.index)) for dataset in datasets}


def _decision_rules(config: Config) -> dict[str, Method]:
    """The distinct thresholds of the methods that need existence scores, all else at its default."""
    names: dict[tuple[float | None, ...], list[str]] = {}
    for name, method in config.methods.items():
        if method.needs_existence:
            rule = (method.positive_above, method.negative_below, method.wanted_precision)
            names.setdefault(rule, []).append(name)
    return {
        ", ".join(of_rule): Method(
            encoder="any", latent="cross_entropy", positive_above=above, negative_below=below, wanted_precision=wanted
        )
        for (above, below, wanted), of_rule in names.items()
    }


def _encoder(config: Config, name: str) -> TextEncoder:
    if name not in config.text.encoders:
        raise UserError("config: text.encoders", f"has no {name}", f"choose of: {', '.join(config.text.encoders)}")
    return config.text.encoders[name]


def _fully_labelled(config: Config) -> Dataset:
    if config.datasets.fully_labelled is None:
        raise UserError("config: datasets.fully_labelled", "is missing", "name the data set of the ROI-aware network")
    return config.datasets.fully_labelled


def _learned_cases(dataset: Dataset, method: Method, seed: int) -> tuple[str, ...]:
    """The training cases that `method` learns from, as often as the data set has cases.

    Fewer labelled cases are repeated in place of the others: the training is as long and every data set has its share
    of it. What is drawn for few cases is part of what is drawn for more.
    """
    cases = dataset.split_cases("train")
    if dataset.name not in method.labelled_cases:
        return cases
    order = random_generator("labelled cases", seed, dataset.name).permutation(len(cases))
    kept = [cases[place] for place in order[: method.labelled_cases[dataset.name]]]
    return tuple(islice(cycle(kept), len(cases)))


def _tasks(config: Config) -> tuple[tuple[str, ...], ...]:
    """The ROIs of each task (one per data set), each ROI in the first data set that labels it."""
    seen: set[str] = set()
    tasks = []
    for dataset in config.datasets.partially_labelled:
        task = tuple(roi for roi in config.roi_names if roi in dataset.labels and roi not in seen)
        seen.update(task)
        if task:
            tasks.append(task)
    return tuple(tasks)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the settings of one stage as JSON.")
    parser.add_argument("stage", choices=SLICES)
    parser.add_argument("--configfile", type=Path, required=True)
    for wildcard in ("dataset", "case", "encoder", "run"):
        parser.add_argument(f"--{wildcard}")
    given = vars(parser.parse_args())
    stage, configfile = given.pop("stage"), given.pop("configfile")
    wanted = tuple(inspect.signature(SLICES[stage]).parameters)[1:]
    for name, value in given.items():
        if (value is not None) != (name in wanted):
            parser.error(f"{stage} needs {', '.join(f'--{name}' for name in wanted) or 'no other option'}")
    try:
        config = load_config(configfile, Path.cwd())
        print(SLICES[stage](config, **{name: given[name] for name in wanted}).model_dump_json(indent=2))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
