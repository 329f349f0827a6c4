"""The defaults that each stage with a version reads, as they were when its version was last raised.

Settings files leave out what equals its default, so Snakemake does not see a default that changes: the stages that
read it need a higher VERSION; where it is a default of one method, a higher `revision` of that method will do. How a
stage runs (`Execution`) changes nothing that it makes and is not recorded. After that, or after a new key, renew the
record:

    python -m tests.support.defaults
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pipeline_lib.config.methods import Method
from pipeline_lib.stages.table import STAGES, version_of

METHODS = get_args(get_args(Method)[0])
RECORD = Path(__file__).with_name("defaults.json")


def defaults_of(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """`Model.key` and its default, for every model in a JSON schema."""
    for model in (schema, *schema.get("$defs", {}).values()):
        for key, field in model.get("properties", {}).items():
            if "default" in field and "Execution" not in (model["title"], field.get("$ref", "").rpartition("/")[2]):
                yield f"{model['title']}.{key}", field["default"]


def current() -> dict[str, Any]:
    """Stage → its version, and the defaults of all sections that its settings hold; `revisions` of the methods."""
    stages = {
        stage: {
            "version": version_of(stage),
            "defaults": dict(sorted(defaults_of(module.Settings.model_json_schema()))),
        }
        for stage, module in STAGES.items()
        if version_of(stage) is not None
    }
    return {**stages, "revisions": {kind.__name__: kind.revision for kind in METHODS}}


def unannounced(recorded: dict[str, Any], now: dict[str, Any]) -> dict[str, list[str]]:
    """Stage → defaults that changed, or went with their key, although neither VERSION nor `revision` was raised."""
    found = {}
    revised = {kind for kind, revision in now["revisions"].items() if revision > recorded["revisions"].get(kind, 0)}
    for stage in (recorded.keys() & now.keys()) - {"revisions"}:
        if now[stage]["version"] > recorded[stage]["version"]:
            continue
        old, new = recorded[stage]["defaults"], now[stage]["defaults"]
        changed = sorted(
            key
            for key in old.keys() & new.keys()
            if old[key] != _without_new_keys(new[key], old[key], new) and key.partition(".")[0] not in revised
        )
        if changed:
            found[stage] = changed
    return found


def _without_new_keys(value: Any, before: Any, defaults: dict[str, Any]) -> Any:
    """`value`, a default, without the keys that its section has gained since `before`, if they have their defaults."""
    if not (isinstance(value, dict) and isinstance(before, dict)):
        return value
    return {
        key: _without_new_keys(part, before.get(key), defaults)
        for key, part in value.items()
        if key in before or not any(name.endswith(f".{key}") and default == part for name, default in defaults.items())
    }


def read_record() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8"))


if __name__ == "__main__":
    missed = unannounced(read_record(), current()) if RECORD.is_file() else {}
    if missed:
        sys.exit(f"error: defaults have changed; raise VERSION of these stages first: {missed}")
    RECORD.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
