"""Cut the config into the settings of the stages.

Snakemake records the path of a settings file as its rule's parameter, so an edit reruns the stages whose settings it
changes. By hand, and with `--execution` for how a stage runs:

    python -m pipeline_lib.stages.settings embed --configfile config/config.yaml --encoder wordllama
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from ..config.loading import load_config
from ..config.schema import Config
from ..config.section import Section, digest, text_without_defaults
from ..errors import UserError
from ..files import atomic_write
from .table import STAGES, has_execution, version_of

WILDCARDS = ("dataset", "batch", "encoder", "run")


def slice_of(stage: str, execution: bool = False) -> Callable[..., Section]:
    """The function that cuts a stage's settings, or how it runs, out of the config."""
    return STAGES[stage].execution_from if execution else STAGES[stage].settings_from


def wildcards_of(cut: Callable[..., Section]) -> tuple[str, ...]:
    """Names of the wildcards that a slice function takes after the config."""
    return tuple(inspect.signature(cut).parameters)[1:]


def settings_file(stage: str, config: Config, execution: bool = False, **wildcards: str) -> str:
    """Write a stage's settings below work/settings/ and return the file's path, which contains a hash of them.

    As a rule's parameter the path changes when, and only when, the settings do. Values that equal their default are
    left out where the stage has a VERSION, so that a new key in the config's models reruns nothing; the other stages
    are cheap and follow their code, so a change of a default must rerun them.
    """
    section = slice_of(stage, execution)(config, **wildcards)
    text = text_without_defaults(section) if version_of(stage) is not None else section.model_dump_json(indent=2)
    name = "-".join((*wildcards.values(), digest(text)))
    path = Path("work") / ("execution" if execution else "settings") / stage / f"{name}.json"
    if not path.exists():
        with atomic_write(path) as partial:
            partial.write_text(f"{text}\n", encoding="utf-8")
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the settings of one stage as JSON.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--configfile", type=Path, required=True)
    parser.add_argument("--execution", action="store_true", help="how the stage runs, instead of what it makes")
    for wildcard in WILDCARDS:
        parser.add_argument(f"--{wildcard}")
    given = vars(parser.parse_args())
    stage, configfile, execution = given.pop("stage"), given.pop("configfile"), given.pop("execution")
    if execution and not has_execution(stage):
        parser.error(f"{stage} has no settings of how it runs")
    cut = slice_of(stage, execution)
    wanted = wildcards_of(cut)
    for name, value in given.items():
        if (value is not None) != (name in wanted):
            parser.error(f"{stage} needs {', '.join(f'--{name}' for name in wanted) or 'no other option'}")
    try:
        config = load_config(configfile)
        print(cut(config, **{name: given[name] for name in wanted}).model_dump_json(indent=2))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
