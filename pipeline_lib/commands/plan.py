"""Say what fits a GPU, how long training takes at the least, and how much disk the data need, before anything runs.

    lacuna plan --configfile config/mots.yaml
    lacuna plan --configfile config/mots.yaml --gpu-memory 24 -o card.yaml
    lacuna plan --configfile config/mots.yaml --gpu 'A100 40GB' --gpus 4
    lacuna plan --configfile config/mots.yaml --presets

It takes the GPU at hand, or the one that is named. The figures are reckoned from the shapes of a training step, with no
GPU needed; they are not measurements. Where volumes or raw cases are in the working directory, it says what they look
like. A training with `gradient_accumulation_steps: auto`, the default, takes such sizes itself where it runs. To fix
them, -o writes the advised keys, to be given after the config:

    snakemake --cores all --configfile config/mots.yaml card.yaml

It takes about a minute.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..measurement.cards import Card


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configfile", type=Path, required=True, help="the config to plan for")
    named = parser.add_mutually_exclusive_group()
    named.add_argument("--gpu-memory", type=_positive, metavar="GB", help="memory of the card (default: that at hand)")
    named.add_argument("--gpu", metavar="NAME", help="a card by name, as 'RTX 3090'")
    named.add_argument("--presets", action="store_true", help="print what is advised for 11, 16, 24, 40 and 80 GB")
    parser.add_argument("--gpus", type=_count, default=1, metavar="N", help="cards that share a training (default: 1)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the advised keys as a config fragment")


def run(given: argparse.Namespace) -> int:
    from ..config.loading import load_config
    from ..errors import UserError
    from ..files import atomic_write

    if given.out is not None and given.out.exists():
        raise UserError(str(given.out), "is there already", "name another file")
    config = load_config(given.configfile)
    from ..measurement.cards import card_of_memory
    from ..measurement.plan import PRESET_MEMORY_GIB, plan
    from ..measurement.plan_text import fragment, lines, presets
    from ..progress import say
    from ..tools.disk import disk_in_words

    if sys.stderr.isatty():
        say("reckoning, which takes about a minute at the paper's size")
    if given.presets:
        cards = [card_of_memory(gib) for gib in PRESET_MEMORY_GIB]
        for line in presets(config, cards, Path()):
            print(line, flush=True)
        return 0
    name, card = _card(given)
    made = plan(config, card, given.gpus, Path())
    print("\n".join(lines(made, name, disk_in_words(config, Path()))))
    if given.out is not None:
        with atomic_write(given.out) as partial:
            partial.write_text(fragment(made, name), encoding="utf-8")
        print(f"written: {given.out}, for `snakemake --cores all --configfile {given.configfile} {given.out}`")
    return 0


def _card(given: argparse.Namespace) -> tuple[str, Card]:
    """The card that is named, or that which PyTorch sees; UserError if there is none or its name is unknown."""
    import torch

    from ..errors import UserError
    from ..measurement.cards import CARDS, UNKNOWN_RATES, Card, card_named, card_of_memory

    if given.gpu_memory is not None:
        name, card = card_of_memory(given.gpu_memory)
        return f"card like {name}", card
    if given.gpu is not None:
        if given.gpu not in CARDS:
            remedy = f"choose from {', '.join(CARDS)}, or use --gpu-memory"
            raise UserError("--gpu", f"{given.gpu} is not known", remedy)
        return given.gpu, CARDS[given.gpu]
    if not torch.cuda.is_available():
        raise UserError("lacuna plan", "PyTorch sees no GPU here", "name one with --gpu-memory GB or --gpu NAME")
    found = torch.cuda.get_device_properties(0)
    gib = found.total_memory / 2**30
    return found.name, card_named(found.name, gib) or Card(gib, UNKNOWN_RATES, found.major >= 8)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value
