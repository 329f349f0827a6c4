"""The command `lacuna`: its sub-commands, each imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..errors import UserError
from ..files import disk_full, is_disk_full
from ..progress import say

BUG, INTERRUPTED = 1, 130

COMMANDS = {
    "predict": "segment CTs with a trained model",
    "info": "say what a model file holds",
    "export": "make a model file that says how to predict, to give away",
    "status": "say where a run stands, and how far each training is",
    "plan": "say what fits a GPU, how long it takes at least, and how much disk it needs",
    "selftest": "check that all works on this machine, and measure it",
}
"""Sub-commands in the order of the help. Each is a module of this folder that fulfils `Command`."""

_HELP = """usage: lacuna COMMAND [options]

Segments CTs with networks that were trained on partially labelled data sets.

commands:
{commands}

lacuna COMMAND --help says more. To train: snakemake, see the README."""


class Command(Protocol):
    """What the module of a sub-command offers; it imports nothing heavy before `run`."""

    __doc__: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, given: argparse.Namespace) -> int:
        """Do it, and return the exit code; raises UserError for what people can fix."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command. Exit codes: 0 done, 2 something people can fix (one line says what), 1 a bug (traceback)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS)) + 2
        print(_HELP.format(commands="\n".join(f"  {name:{width}}{does}" for name, does in COMMANDS.items())))
        return 0
    if words[0] in ("-V", "--version"):
        from ..version import version

        print(version())
        return 0
    name = words[0]
    if name not in COMMANDS:
        say(f"error: lacuna {name}: there is no such command; there are: {', '.join(COMMANDS)}")
        return UserError.exit_code
    command: Command = importlib.import_module(f"{__package__}.{name}")
    parser = argparse.ArgumentParser(
        prog=f"lacuna {name}",
        description=(command.__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    given = parser.parse_args(words[1:])
    try:
        return command.run(given)
    except UserError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED
    except Exception as error:
        if is_disk_full(error):
            say(f"error: {disk_full(error, Path.cwd(), 'free some space and give the command again')}")
            return UserError.exit_code
        say(traceback.format_exc())
        return BUG


if __name__ == "__main__":
    sys.exit(main())
