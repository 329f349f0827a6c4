"""Documents that are made from the models agree with them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline_lib.tools.documentation import config_schema, dataset_schema, documents

BASE = Path(__file__).parents[2]


@pytest.mark.parametrize("name", documents())
def test_generated_documents_are_up_to_date(name):
    written = (BASE / "config" / name).read_text(encoding="utf-8")
    assert written == documents()[name], "run: python -m pipeline_lib.tools.documentation"


@pytest.mark.parametrize("path", sorted((BASE / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_configs_satisfy_the_schema(path):
    schema = config_schema()
    if path.name == "methods.yaml":
        del schema["required"]  # what it is laid over has the rest
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema)


@pytest.mark.parametrize("path", sorted((BASE / "config" / "datasets").glob("*.yaml")), ids=lambda path: path.name)
def test_data_sets_satisfy_the_schema(path):
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), dataset_schema())


def test_the_schema_refuses_an_unknown_key():
    content = yaml.safe_load((BASE / "config" / "config.yaml").read_text(encoding="utf-8"))
    content["epoch"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, config_schema())


def test_environment_and_package_name_the_same_requirements():
    package = tomllib.loads((BASE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = yaml.safe_load((BASE / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    assert sorted(pip) == sorted(package["dependencies"])
    assert f"python {package['requires-python']}" in environment
