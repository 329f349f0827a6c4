"""history.jsonl: what happened during a training, one line of JSON per few steps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..progress import say

_MAX_ROWS = 2000


class History:
    """About two thousand rows at most of a training of `steps` steps, in a file that is cut back on resume.

    What cannot be written (a full disk) is kept in memory and written later. A checkpoint stores how many bytes of the
    file belong to the steps that are done, and the sums of the row that is being filled.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self.path = path
        self.steps_per_row = max(1, round(steps / _MAX_ROWS))
        self._position = 0
        self._sums: dict[str, tuple[float, int]] = {}
        self._held: dict[str, Any] | None = None
        self._unwritten = b""

    def add(self, step: int, means: dict[str, float], latest: dict[str, Any], held: bool = False) -> None:
        """Count what was seen when `step` steps were done, and write a row after every `steps_per_row` of them.

        A row holds `step`, `latest` as it is, and for each of `means` the mean since the previous row, over the steps
        that had it; "loss/total" becomes the entry `total` of `loss`. A row that is `held` waits for `release`.
        """
        for name, value in means.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)
        row: dict[str, Any] = {"step": step, **latest}
        if held:
            self._held = row
        elif step % self.steps_per_row == 0:
            self._write(row)

    def release(self, entries: dict[str, Any]) -> None:
        """Write the row that was held, with `entries` that were found meanwhile."""
        assert self._held is not None
        row, self._held = {**self._held, **entries}, None
        self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        for name, (total, count) in self._sums.items():
            group, _, entry = name.partition("/")
            if entry:
                row.setdefault(group, {})[entry] = total / count
            else:
                row[group] = total / count
        self._sums = {}
        self._unwritten += json.dumps(row).encode() + b"\n"
        self.flush()

    def flush(self, durably: bool = False) -> bool:
        """Write what is waiting, `durably` to survive a power cut; False, with a warning, if the disk refuses."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self.path.exists() else "w+b") as file:
                if os.fstat(file.fileno()).st_size < self._position:
                    # A gap would fill with zero bytes.
                    say(f"warning: {self.path} was cut, but not by this training; its last rows are lost")
                    self._position = file.read().rfind(b"\n") + 1
                file.truncate(self._position)
                file.seek(self._position)
                file.write(self._unwritten)
                file.flush()
                if durably:
                    os.fsync(file.fileno())
        except OSError as error:
            say(f"warning: {self.path} cannot be written, training continues: {error.strerror}")
            return False
        self._position += len(self._unwritten)
        self._unwritten = b""
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"position": self._position, "sums": dict(self._sums), "held": self._held}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position, self._sums = state["position"], dict(state["sums"])
        # A checkpoint of an earlier version has no such row.
        self._held = state.get("held")
