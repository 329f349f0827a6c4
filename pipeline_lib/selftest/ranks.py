"""One of the processes that selftest starts: are gradients summed over processes those of one process?

    python -m pipeline_lib.tools.launch --gpus 2 pipeline_lib.selftest.ranks --device cuda --out FILE

Rank 0 writes to FILE how far the gradient of a small network is off, as a share of its largest value.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from ..config.optimisation import Execution
from ..files import write_json
from ..training.distributed import Distributed, init_distributed

_SAMPLES = 4


def gradient_error(distributed: Distributed) -> float:
    """With each rank's share of the samples and the mean over ranks, against all samples in one process."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 3, padding=1))
    images = torch.randn(_SAMPLES, 1, 8, 8, 8)
    network, images = network.to(distributed.device), images.to(distributed.device)
    network(images).square().sum().backward()
    whole = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    mine = images[distributed.rank :: distributed.world_size]
    wrapped = distributed.wrap(network)
    # DistributedDataParallel averages; the sum is wanted.
    (distributed.world_size * wrapped(mine).square().sum()).backward()
    pairs = zip(whole, (parameter.grad for parameter in network.parameters()), strict=True)
    return max(((found - true).abs().max() / true.abs().max()).nan_to_num(1.0).item() for true, found in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with init_distributed(Execution(device=given.device)) as distributed:
        error = gradient_error(distributed)
        everyone = distributed.all_gather((distributed.rank, error))
        if distributed.is_main:
            worst = max(error for _, error in everyone)
            write_json(given.out, {"ranks": [rank for rank, _ in everyone], "error": worst})


if __name__ == "__main__":
    main()
