"""Read a config and the data set files that it names; every mistake ends in one line.

A data set's file `NAME.yaml` is looked up in `datasets/` beside the config, then in `config/datasets/` of the working
directory, then in that of the checkout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from ..errors import UserError
from .datasets import Dataset
from .labelled_table import read_labelled_table
from .labelling import LabelledRule
from .problems import most_helpful
from .schema import Config

CHECKOUT = Path(__file__).parents[2]
_DATASETS = Path("config") / "datasets"


def load_config(source: Mapping[str, Any] | Path, base: Path = CHECKOUT, configfiles: Sequence[Path] = ()) -> Config:
    """Read, resolve and check a config.

    Parameters
    ----------
    source: a YAML file, or the mapping that Snakemake made of `configfiles`.
    base: the checkout, whose `config/datasets/` comes last where data sets are looked up.
    configfiles: the files that a mapping was read from.

    Raises
    ------
    UserError: one line that names the wrong key, what is wrong and what to do.
    """
    if isinstance(source, Path):
        configfiles, content = (source,), _read_yaml(source)
    else:
        content = dict(source)
        for file in configfiles:
            _read_yaml(file)  # Snakemake silently takes the last of a key's values.
    folders = (*(file.parent / "datasets" for file in configfiles), Path.cwd() / _DATASETS, base / _DATASETS)
    datasets = content.get("datasets")
    if isinstance(datasets, Mapping):
        content = {**content, "datasets": _load_datasets(datasets, folders)}
    return _validated(Config, content, ", ".join(map(str, configfiles)) or "config")


def load_dataset(name: str, base: Path = CHECKOUT) -> Dataset:
    """Read the data set file of this name in the working directory or below `base`, or the YAML file at path `name`."""
    return _load_dataset(name, (Path.cwd() / _DATASETS, base / _DATASETS))


def _load_datasets(datasets: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    resolved = dict(datasets)
    partial = datasets.get("partially_labelled")
    if isinstance(partial, list | tuple):
        resolved["partially_labelled"] = [
            _load_dataset(entry, folders) if isinstance(entry, str) else entry for entry in partial
        ]
    if isinstance(datasets.get("fully_labelled"), str):
        resolved["fully_labelled"] = _load_dataset(datasets["fully_labelled"], folders)
    return resolved


def _load_dataset(name: str, folders: Sequence[Path]) -> Dataset:
    path = _dataset_file(name, folders)
    content = _read_yaml(path)
    cases = content.get("cases")
    if isinstance(cases, str):
        listed = path.parent / cases
        if not listed.is_file():
            raise UserError(f"{path}: cases", f"there is no {listed}", "write that list, one case name per line")
        content["cases"] = _listed_cases(listed)
    labelled = content.get("labelled")
    if isinstance(labelled, str) and labelled not in get_args(LabelledRule):
        content["labelled"] = _labelled_cases(path, path.parent / labelled, content)
    dataset = _validated(Dataset, content, str(path))
    if dataset.name != path.stem:
        raise UserError(f"{path}: name", f"is {dataset.name!r}", f"name the data set like its file, {path.stem!r}")
    return dataset


def _listed_cases(path: Path) -> list[str]:
    """Names of cases from a text file, one per line; blank lines and lines that begin with # do not count."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(str(path), "is not UTF-8 text", "save it as UTF-8, one case name per line") from error
    return [name for line in lines if (name := line.strip()) and not name.startswith("#")]


def _labelled_cases(path: Path, table: Path, content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Case → ROIs from the table that a data set's file names."""
    if not table.is_file():
        remedy = "write that table, or one of: " + ", ".join(get_args(LabelledRule))
        raise UserError(f"{path}: labelled", f"there is no {table}", remedy)
    rois, cases = content.get("labels"), content.get("cases")
    if not rois or not isinstance(rois, Mapping) or not isinstance(cases, list | tuple):
        remedy = "give both, or leave `labelled` out"
        raise UserError(f"{path}: labelled", "names a table, which needs `labels` and `cases`", remedy)
    return read_labelled_table(table, tuple(map(str, rois)), tuple(map(str, cases)))


def _dataset_file(name: str, folders: Sequence[Path]) -> Path:
    is_path = name.endswith((".yaml", ".yml"))
    candidates = [Path(name)] if is_path else [folder / f"{name}.yaml" for folder in folders]
    for path in candidates:
        if path.is_file():
            return path
    if is_path:
        raise UserError("config: datasets", f"there is no {name}", "correct the path of the data set's file")
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise UserError(
        "config: datasets",
        f"unknown data set {name}",
        f"write {candidates[0]} or choose from: {', '.join(known)}",
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), path)
        content = yaml.safe_load(text)
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror})", "give the path of a YAML file") from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise UserError(str(path), f"is not valid YAML ({problem})", "fix the file") from error
    if not isinstance(content, dict):
        raise UserError(str(path), "has no keys", "start from config/config.yaml")
    return content


def _refuse_repeated_keys(node: yaml.Node | None, path: Path) -> None:
    """PyYAML silently takes the last value of a key that is given twice."""
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _refuse_repeated_keys(entry, path)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in lines:
                wrong = f"`{key.value}` is given twice, first in line {lines[key.value]}"
                raise UserError(f"{path}, line {line}", wrong, "keep one of them")
            if isinstance(key, yaml.ScalarNode):
                lines[key.value] = line
            _refuse_repeated_keys(value, path)


def _validated(model: type[Any], content: Mapping[str, Any], where: str) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise most_helpful(error, model, where) from error
