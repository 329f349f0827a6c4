"""What stays on a terminal and what is rewritten, seen through a terminal of a few lines."""

from __future__ import annotations

import io
import os
import re

import pytest

from pipeline_lib.tools import screen as module
from pipeline_lib.tools.screen import Screen


class Terminal(io.StringIO):
    """Follows the few control sequences that `Screen` writes; colours are left out."""

    def isatty(self):
        return True

    def shown(self) -> list[str]:
        rows, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[\d*[A-Zm]|\x1b\[m|[^\x1b]", re.sub(r"\x1b\[\d+m", "", self.getvalue())):
            if part == "\n":
                row, column = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            elif part == "\r":
                column = 0
            elif part == "\x1b[J":
                rows = [*rows[:row], rows[row][:column]]
            elif part.endswith("A"):
                row -= int(part[2:-1])
            else:
                rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + 1 :]
                column += 1
        return [line for line in rows if line]


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module.shutil, "get_terminal_size", lambda: os.terminal_size((30, 6)))
    return Terminal()


def test_running_lines_are_rewritten_below_those_that_stay(terminal):
    screen = Screen(terminal)
    screen.show(["header"], ["running a 1/3", "running b"])
    screen.show([], ["running a 2/3", "running b"])
    assert terminal.shown() == ["header", "running a 2/3", "running b"]
    screen.show(["done a"], ["running b"])
    assert terminal.shown() == ["header", "done a", "running b"]
    screen.show(["done b"])
    assert terminal.shown() == ["header", "done a", "done b"]


def test_what_others_print_is_never_taken_away(terminal):
    screen = Screen(terminal)
    screen.show([], ["running a", "running b"])
    terminal.write("Segmentation fault\nand more\n")
    screen.show(["done a"], ["running b"])
    begins = ["Segmentation fault", "and more", "done a", "running b"]
    assert all(line.startswith(begin) for line, begin in zip(terminal.shown(), begins, strict=True))


def test_running_lines_fit_the_terminal(terminal):
    Screen(terminal).show([], [f"running {number} {'x' * 40}" for number in range(7)])
    shown = terminal.shown()
    assert len(shown) == 4
    assert max(map(len, shown)) == 29
    assert shown[-1] == "... and 4 more"


def test_a_narrow_terminal_shows_figures_rather_than_gaps(terminal):
    Screen(terminal).show([], ["running  a                4/9 jobs"])
    assert terminal.shown() == ["running  a  4/9 jobs"]


def test_without_a_terminal_only_the_lines_that_stay_are_printed_and_plain():
    stream = io.StringIO()
    screen = Screen(stream)
    screen.show(["error: a"], ["running a"])
    screen.show([], ["running a"])
    assert stream.getvalue() == "error: a\n"


def test_control_characters_of_a_log_do_not_reach_the_terminal(terminal):
    Screen(terminal).show(["a\x1b[2Jb\rc"])
    assert terminal.shown() == ["a [2Jb c"]


def test_a_terminal_that_can_only_print_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    Screen(terminal).show(["failed x"], ["running y"])
    assert terminal.getvalue() == "failed x\n"


def test_the_first_word_of_a_line_is_coloured_unless_that_is_unwanted(terminal):
    coloured, plain = Terminal(), Terminal()
    Screen(coloured).show(["failed x"])
    Screen(plain, coloured=False).show(["failed x"])
    assert "\x1b[31mfailed\x1b[0m x\n" in coloured.getvalue()
    assert "m" not in plain.getvalue().replace("\x1b[J", "")
