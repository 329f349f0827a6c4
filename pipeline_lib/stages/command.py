"""The command line that every stage has: `--settings`, then a flag per input and output."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import sys
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from ..config.section import Section
from ..errors import UserError
from ..files import disk_full, is_disk_full
from ..progress import log_to, say

BUG = 1

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch reads it at its first allocation and then asks Linux for huge pages, which saves a CPU step a tenth."""


def stage_command(
    run: Callable[..., None],
    settings: type[Section],
    inputs: type[Any],
    outputs: type[Any],
    execution: type[Section] | None = None,
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Parse the command line, call `run(settings, [execution,] inputs, outputs)` and exit.

    `inputs` and `outputs` are frozen dataclasses of paths; each field is a flag (`volume_folder` is
    `--volume-folder`), a tuple field takes several paths, and one that may be None can be left out.
    `--settings` takes the stage's settings as JSON or as the path of a JSON file; so does `--execution`, for stages
    that have settings of how they run apart from what they make. Exit codes: 0 done, 2 something
    the user can fix (one line says what), 1 a bug (traceback).
    """
    os.environ.setdefault(HUGE_PAGES, "1")
    # What has been imported is not garbage (see __init__.py).
    gc.freeze()
    gc.enable()
    module = sys.modules[run.__module__]
    parser = argparse.ArgumentParser(
        description=(module.__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", required=True, help="settings as JSON, or the path of a JSON file")
    if execution is not None:
        parser.add_argument("--execution", required=True, help="how the stage runs, as JSON or a JSON file's path")
    parser.add_argument("--log", type=Path, help="file that gets every message too")
    for model in (inputs, outputs):
        _add_flags(parser, model)
    given = parser.parse_args(arguments)
    if given.log is not None:
        log_to(given.log)
    try:
        parts = [_read_json(settings, given.settings, "--settings")]
        if execution is not None:
            parts.append(_read_json(execution, given.execution, "--execution"))
        run(*parts, _filled(inputs, given), _filled(outputs, given))
    except UserError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except Exception as error:
        if isinstance(error, OSError) and is_disk_full(error):
            full = _disk_full(error, _filled(outputs, given))
            say(f"error: {full}")
            sys.exit(full.exit_code)
        say(traceback.format_exc())
        sys.exit(BUG)
    sys.exit(0)


def _disk_full(error: OSError, outputs: Any) -> UserError:
    """What did not fit: the file that the error names, or else the stage's first output."""
    paths = [path for path in vars(outputs).values() if isinstance(path, Path)] or [Path.cwd()]
    remedy = "free some space and rerun the same command (python -m pipeline_lib.tools.disk lists what a config needs)"
    return disk_full(error, paths[0], remedy)


def _read_json(model: type[Section], given: str, flag: str) -> Section:
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
        return model.model_validate_json(text)
    except OSError as error:
        raise UserError(flag, f"{given}: {error.strerror}", "give JSON or the path of a JSON file") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        remedy = "print them with python -m pipeline_lib.stages.settings"
        raise UserError(f"{flag}: {key}", first["msg"], remedy) from error


def flag_of(field: str) -> str:
    """The flag of a field of a stage's `Inputs` or `Outputs`."""
    return "--" + field.replace("_", "-")


def _add_flags(parser: argparse.ArgumentParser, model: type[Any]) -> None:
    hints = typing.get_type_hints(model)
    for field in dataclasses.fields(model):
        several = typing.get_origin(hints[field.name]) is tuple
        optional = isinstance(hints[field.name], types.UnionType)
        parser.add_argument(
            flag_of(field.name),
            dest=field.name,
            type=Path,
            nargs="*" if several else "?" if optional else None,
            required=not optional and not several,
        )


def _filled(model: type[Any], given: argparse.Namespace) -> Any:
    hints = typing.get_type_hints(model)
    values = {field.name: getattr(given, field.name) for field in dataclasses.fields(model)}
    for name, hint in hints.items():
        if typing.get_origin(hint) is tuple:
            values[name] = tuple(values[name] or ())
    return model(**values)
