"""Check that training and prediction work on this machine, and measure them; a table to paste into a bug report.

    lacuna selftest
    lacuna selftest --device cpu

It checks layers of our own against their references in each precision that the hardware has, takes training steps and
compares their memory and time with the estimate and with a plain composition, lets two processes train together,
resumes from a checkpoint, and predicts. It needs no data. Exit code 0: nothing is wrong, 1: a check failed.

With a GPU it takes up to five minutes, without one a minute on two idle cores.
"""

from __future__ import annotations

import argparse
import os


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if there is one"
    )


def run(given: argparse.Namespace) -> int:
    from ..device import compute_device

    device = compute_device(given.device, "--device")
    if device.type == "cpu":
        # Read when Triton is imported, as much of torch does: its kernels are then computed in NumPy.
        os.environ["TRITON_INTERPRET"] = "1"
    from ..selftest.run import selftest

    return selftest(device)
