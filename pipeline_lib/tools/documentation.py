"""Makes config/README.md and the JSON schemas for editors from the models, so that they cannot disagree.

python -m pipeline_lib.tools.documentation
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config.datasets import Dataset
from ..config.schema import Config

INTRODUCTION = """# The config

Made from the models in `pipeline_lib/config/` by `python -m pipeline_lib.tools.documentation`; edit those, not this.

- `config.yaml` is the embedded phantom benchmark, `mots.yaml` the paper's experiment; name another with
  `snakemake --configfile FILE`. A config stands alone: what it leaves out takes the default below.
- One key for one run: `snakemake --config 'compare=[baseline, dodnet]'`.
- `datasets/NAME.yaml` describes one data set; a config names the data sets that it uses.
- Unknown keys and contradictions end in one line before any job starts.
- Editors check these files against `schema.json` and `dataset.schema.json`.
"""


def config_schema() -> dict[str, Any]:
    """JSON schema of a config file, in which data sets are named rather than written out."""
    schema = Config.model_json_schema()
    named = {"type": "string", "description": "Name of a file under config/datasets/."}
    places = schema["$defs"]["Datasets"]["properties"]
    places["partially_labelled"]["items"] = {"anyOf": [named, places["partially_labelled"]["items"]]}
    places["fully_labelled"]["anyOf"].insert(0, named)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def dataset_schema() -> dict[str, Any]:
    """JSON schema of a data set's file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Dataset.model_json_schema()}


def readme() -> str:
    """Every key in tables, one table a section, in the order of a config file."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    lines = [INTRODUCTION]
    waiting = [("Config", "The whole file", schema)]
    shown = {"Config"}
    while waiting:
        name, title, section = waiting.pop(0)
        lines += [f"\n## {title}\n", f"{_sentence(section)}\n"] if name != "Config" else [f"\n## {title}\n"]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        required = section.get("required", [])
        found = []
        for key, field in section["properties"].items():
            for target in _references(field):
                if target not in shown:
                    shown.add(target)
                    found.append((target, _title(target, key, title, definitions[target]), definitions[target]))
            default = "required" if key in required else _default(field, definitions)
            meaning = field.get("description") or _reference_sentence(field, definitions)
            meaning = meaning or ("Says which kind of section this is." if "const" in field else "")
            lines.append(f"| `{key}` | {_type(field)} | {default} | {_cell(meaning)} |")
        waiting = found + waiting
    return "\n".join(lines).rstrip() + "\n"


def _title(model: str, key: str, parent: str, section: dict[str, Any]) -> str:
    kind = section.get("properties", {}).get("kind", {}).get("const")
    if kind is not None:
        return f"`{key}` of kind `{kind}`"
    return f"`{key}`" if parent == "The whole file" else f"`{key}` ({model})"


def _sentence(section: dict[str, Any]) -> str:
    return " ".join(section.get("description", "").split())


def _reference_sentence(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    targets = _references(field)
    return _sentence(definitions[targets[0]]) if targets else ""


def _references(field: Any) -> list[str]:
    """Names of the models that a field's type mentions."""
    if isinstance(field, dict):
        own = [field["$ref"].rsplit("/", 1)[1]] if "$ref" in field else []
        inner = [
            name for key, part in field.items() if key not in ("default", "discriminator") for name in _references(part)
        ]
        return own + [name for name in inner if name not in own]
    if isinstance(field, list):
        return [name for part in field for name in _references(part)]
    return []


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return "section"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    options = field.get("anyOf") or field.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if field.get("type") == "array":
        inner = field.get("prefixItems")
        return f"[{', '.join(_type(part) for part in inner)}]" if inner else f"list of {_type(field.get('items', {}))}"
    if field.get("type") == "object":
        return f"mapping to {_type(_values(field))}"
    return _bounded(field)


def _values(mapping: dict[str, Any]) -> dict[str, Any]:
    """Schema of the values of a mapping, whose keys may have to match a pattern."""
    return next(iter(mapping.get("patternProperties", {}).values()), None) or mapping.get("additionalProperties", {})


def _bounded(field: dict[str, Any]) -> str:
    names = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
    signs = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
        "multipleOf": "multiple of",
    }
    bounds = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return " ".join([names.get(field.get("type", ""), "section"), ", ".join(bounds)]).strip()


def _default(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    default = field.get("default")
    if "$ref" in field and definitions[field["$ref"].rsplit("/", 1)[1]].get("type") == "object":
        return "see below"
    if default and field.get("type") == "object" and _references(field):
        return "the defaults below"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def documents() -> dict[str, str]:
    """Name under config/ → content of every generated file."""
    return {
        "README.md": readme(),
        "schema.json": json.dumps(config_schema(), indent=1, ensure_ascii=False) + "\n",
        "dataset.schema.json": json.dumps(dataset_schema(), indent=1, ensure_ascii=False) + "\n",
    }


def main() -> None:
    folder = Path(__file__).parents[2] / "config"
    for name, content in documents().items():
        (folder / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
