"""Options that several sub-commands have."""

from __future__ import annotations

import argparse


def add_prediction_options(parser: argparse.ArgumentParser) -> None:
    """What decides how a model predicts; each stands above what the model file says."""
    parser.add_argument(
        "--overlap", type=_share, metavar="SHARE", help="overlap of neighbouring windows, from 0 to below 1"
    )
    parser.add_argument(
        "--flip-tta",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="average over the eight flips of each window",
    )
    parser.add_argument(
        "--weights", choices=("student", "teacher"), help="which network predicts, if the file has both"
    )
    parser.add_argument(
        "--largest-part",
        nargs="+",
        default=(),
        metavar="ROI",
        help="ROIs of which only the largest connected part is kept",
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to below 1")
    return value
