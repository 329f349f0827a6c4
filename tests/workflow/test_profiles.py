"""The profiles speak of rules that the workflow has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from .conftest import BASE

PROFILES = sorted((BASE / "workflow" / "profiles").glob("*/config.yaml"))
OF_RULES = ("groups", "set-threads", "set-resources", "set-scatter")


def rules_of_the_workflow() -> dict[str, str]:
    """Name → text of every rule, as they stand in the rule files."""
    files = [BASE / "Snakefile", *(BASE / "workflow" / "rules").glob("*.smk")]
    rules = (re.split(r"^ *rule (?=\w+:)", file.read_text(), flags=re.MULTILINE)[1:] for file in files)
    return {text.partition(":")[0]: text for of_file in rules for text in of_file}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_every_rule_that_a_profile_names_exists(path: Path):
    profile = yaml.safe_load(path.read_text())
    named = {rule for key in OF_RULES for rule in profile.get(key, {})}
    assert named <= rules_of_the_workflow().keys()
    assert set(profile.get("group-components", {})) <= set(profile.get("groups", {}).values())


def test_the_cluster_profile_knows_every_stage_that_uses_a_gpu():
    profile = yaml.safe_load((BASE / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())
    on_gpus = {rule for rule, resources in profile["set-resources"].items() if "gpu" in resources}
    assert on_gpus == {
        rule for rule, text in rules_of_the_workflow().items() if re.search(r"^ +gpu=", text, re.MULTILINE)
    }
    assert on_gpus <= profile["set-threads"].keys()
