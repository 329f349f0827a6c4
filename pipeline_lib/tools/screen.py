"""Lines that stay, and below them lines that are rewritten; without a terminal only those that stay."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from typing import TextIO

_COLOURS = {"done": 32, "failed": 31, "error:": 31, "again": 33, "stopped": 33, "warning:": 33}
_UP, _CLEAR_BELOW = "\x1b[{}A", "\r\x1b[J"
_GAPS = re.compile(" {3,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Screen:
    """Writes to `stream`, in colour on a terminal if `coloured`.

    The cursor waits above the rewritten lines, not below: whatever else is printed, by a library in a job or by the
    shell after a kill, overwrites them, and rewriting them never takes away a line that is not theirs.
    """

    def __init__(self, stream: TextIO, coloured: bool = True) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = coloured and self.is_terminal

    def show(self, lasting: Sequence[str], live: Sequence[str] = ()) -> None:
        """Print the lines `lasting`, and `live` below them until the next call, which only a terminal shows.

        A live line that is too long loses its columns and is cut, since one that wraps could not be rewritten.
        """
        lasting = [_CONTROL.sub(" ", line) for line in lasting]
        text = "".join(f"{self._painted(line)}\n" for line in lasting)
        if self.is_terminal:
            text = _CLEAR_BELOW + text + self._live(live)
        if text:
            self.stream.write(text)
            self.stream.flush()

    def _live(self, lines: Sequence[str]) -> str:
        columns, rows = shutil.get_terminal_size()
        most = max(1, rows - 2)
        if len(lines) > most:
            lines = [*lines[: most - 1], f"... and {len(lines) - most + 1} more"]
        lines = [line if len(line) < columns else _GAPS.sub("  ", line) for line in lines]
        cut = [line if len(line) < columns else f"{line[: columns - 2]}…" for line in lines]
        return "".join(f"{self._painted(line)}\n" for line in cut) + (_UP.format(len(cut)) if cut else "")

    def _painted(self, line: str) -> str:
        word = line.partition(" ")[0]
        if not self._coloured or word not in _COLOURS:
            return line
        return f"\x1b[{_COLOURS[word]}m{word}\x1b[0m{line.removeprefix(word)}"
