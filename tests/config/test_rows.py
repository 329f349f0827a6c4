"""The rows of the paper's table differ in what it says, and in nothing else; its open points are keys with comments."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline_lib.config.loading import load_config
from pipeline_lib.stages.predict import settings as predict
from pipeline_lib.stages.train import settings as train

BASE = Path(__file__).parents[2]

ROWS = {
    ("baseline", "mean_teacher"): {"method.kind"},
    ("baseline", "without_mse"): {"method.kind"},
    ("without_mse", "latent_class"): {"method.consistency"},
    ("mean_teacher", "latent_class"): {"method.kind"},
    ("baseline", "dodnet"): {"method.network", "method.encoder"},
}
"""Two rows → the resolved settings of their trainings in which the paper has them differ."""

OPEN_POINTS = (
    "methods.baseline.supervised",
    "methods.baseline.network",
    "methods.dodnet.network",
    "text.prompt",
    "rois.hepatic_vessel",
    "rois.kidney",
    "segmentation.epochs",
    "volumes.spacing_mm",
    "volumes.window_hu",
    "patches.foreground_fraction",
    "augmentation.weak",
    "augmentation.strong",
    "teacher",
    "teacher.fast_start",
    "methods.latent_class.warmup_fraction",
    "methods.latent_class.rampup_fraction",
    "segmentation.warmup_epochs",
    "methods.latent_class.sharpening_temperature",
    "inference.post_processing",
    "existence.mode",
)
CHOSEN_BY = ("[LC]", "DoDNet", "Universal Model", "ours", "our choice", "practice")


def flat(value: object, path: str = "") -> dict[str, object]:
    """Every leaf of nested settings by its dotted path."""
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key, part in value.items() for name, leaf in flat(part, f"{path}.{key}".strip(".")).items()}


@pytest.mark.parametrize("pair", ROWS, ids="-".join)
@pytest.mark.parametrize("name", ["mots", "config"])
def test_two_rows_differ_in_what_the_paper_says(name, pair):
    config = load_config(BASE / "config" / f"{name}.yaml", BASE)
    one, other = (flat(train.settings_from(config, f"{row}-seed0").model_dump(mode="json")) for row in pair)
    differing = {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
    # What a row does not use stands at its default there, so that editing it retrains only the others.
    unused = {path for path in differing if path.split(".")[0] in ("teacher", "existence")}
    of_network = {path for path in differing if path.split(".")[0] == "network"}
    assert bool(of_network) == ("method.network" in ROWS[pair])
    # A key that only one of two kinds of methods has says nothing about the other.
    shared = one.keys() & other.keys()
    keys_of_one_kind = {path for path in differing if path.startswith("method.") and path not in shared}
    assert not keys_of_one_kind or "method.kind" in ROWS[pair]
    assert differing - unused - of_network - keys_of_one_kind == ROWS[pair] | {"run"}
    assert name != "mots" or not unused
    for part in unused:
        uses = [config.methods[row].needs_teacher for row in pair]
        assert not part.startswith("teacher") or not all(uses), "two rows with a teacher have the same one"


@pytest.mark.parametrize("run", ["mean_teacher", "without_mse", "dodnet", "latent_class"])
def test_every_row_is_tested_in_the_same_way(run):
    config = load_config(BASE / "config" / "mots.yaml", BASE)
    for dataset in config.datasets.partially_labelled:
        mine, baseline = (predict.settings_from(config, f"{row}-seed0", dataset.name) for row in (run, "baseline"))
        assert mine.model_copy(update={"run": "baseline-seed0"}) == baseline


def keys_of(node: yaml.Node, path: str = "") -> dict[str, int]:
    """Dotted path of every key of a YAML document → its line; an entry of a list goes by its `name`."""
    found = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{path}.{key.value}".strip(".")
            found |= {name: key.start_mark.line, **keys_of(value, name)}
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            fields = (
                {key.value: value.value for key, value in entry.value} if isinstance(entry, yaml.MappingNode) else {}
            )
            if "name" in fields:
                found[f"{path}.{fields['name']}"] = entry.start_mark.line
    return found


@pytest.mark.parametrize("point", OPEN_POINTS)
def test_an_open_point_is_a_key_with_a_comment_that_says_whose_choice_it_is(point):
    text = (BASE / "config" / "mots.yaml").read_text(encoding="utf-8")
    lines = keys_of(yaml.compose(text))
    assert point in lines
    comment = text.splitlines()[lines[point]].partition("#")[2]
    assert any(choice in comment for choice in CHOSEN_BY), f"{point}: {comment!r}"
