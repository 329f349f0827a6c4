"""Say where a run stands: what is done, running and queued, and how far each training is.

    lacuna status
    lacuna status /scratch/study

It reads files of the run's working directory alone, so it works while the run goes, on a cluster, and after the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="working directory (default: this one)")


def run(given: argparse.Namespace) -> int:
    from ..tools.status import main

    return main([str(given.folder)])
