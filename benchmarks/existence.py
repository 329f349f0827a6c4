"""What cached existence scores save: time and peak memory of a training step with `existence.mode` cached and online.

    python benchmarks/existence.py                   # the paper's size where there is a GPU, else a small one
    python benchmarks/existence.py --structures 104 --roi-aware-width 64

A step, its sizes and its flags are those of benchmarks/train_step.py; online it also runs the frozen ROI-aware network
on x_T. Each runs in a process of its own, for the memory, and they take turns, so that whatever else the machine does
meets both alike. The last line compares the patches that are scored for the paper's experiment: cached, every pooled
patch once for all methods and seeds; online, every sample of every step of each training.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from train_step import Measured, measured, parsed

from pipeline_lib.config.loading import load_config
from pipeline_lib.measurement.cases import write_cases
from pipeline_lib.stages.train.settings import settings_from

BASE = Path(__file__).parents[1]
ROUNDS = 3


def scored_patches() -> tuple[int, int]:
    """Patches that are scored before the paper's trainings, and in one of them that scores online."""
    training = settings_from(load_config(BASE / "config" / "mots.yaml", BASE), "latent_class-seed0")
    cases = sum(len(names) for names in training.cases.values())
    return cases * training.patches.pool_size, cases * training.optimisation.epochs


def main() -> None:
    options = parsed(__doc__)
    found: dict[str, list[Measured]] = {"ours": [], "online": []}
    with tempfile.TemporaryDirectory() as folder:
        cases = write_cases(Path(folder), tuple(options.patch), options.rois)
        for _ in range(ROUNDS):
            for variant, rows in found.items():
                row = measured(variant, options, cases, options.batch, options.accumulation)
                if row is None:
                    raise SystemExit("lower --batch")
                rows.append(row)
    pairs = list(zip(*found.values(), strict=True))
    ratios = [online.seconds / cached.seconds for cached, online in pairs]
    more = statistics.median((online.peak - cached.peak) / 2**20 for cached, online in pairs)
    print(
        f"online / cached: {statistics.median(ratios):.2f} times the time "
        f"({', '.join(f'{ratio:.2f}' for ratio in ratios)}), {more:+.0f} MiB at the peak"
    )
    pooled, sampled = scored_patches()
    print(f"patches scored for the paper's experiment: cached {pooled:,}, online {sampled:,} for each training")


if __name__ == "__main__":
    main()
