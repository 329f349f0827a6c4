"""How fast the dynamic heads learn to tell ROIs apart, by how they start.

    python benchmarks/head_start.py --steps 200 --seeds 3

A small convolutional trunk under each head learns eleven regions, defined by intensity and place, from samples that
label two of them each (Eq. 1, AdamW, cosine). The table gives the mean Dice of unseen samples after the last step:

- text: the text-conditioned head on wordllama's vectors of the paper's ROIs, as they are or standardised;
- task: DoDNet's head on one-hot task codes;
- with PyTorch's default initialisation of the controller, with the generated layers' fan-in respected, and (task) with
  the code drawn as strong as the rest.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
import wordllama
from torch import Tensor, nn

from pipeline_lib.config.method_settings import SupervisedLoss
from pipeline_lib.methods.supervised_loss import supervised_loss
from pipeline_lib.networks import dynamic_head
from pipeline_lib.networks.dodnet.network import task_and_map
from pipeline_lib.networks.dynamic_head import TextConditionedHead, head_features, start_as_plain_network
from pipeline_lib.networks.generated_layers import generated_layers
from pipeline_lib.networks.head_parameters import parameter_count

ROIS = (
    *("liver", "liver tumor", "kidney", "kidney tumor", "hepatic vessel", "hepatic vessel tumor"),
    *("pancreas", "pancreas tumor", "colon cancer", "lung tumor", "spleen"),
)
TASK_CODES = torch.eye(7)[[0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6]]
SIDE, CHANNELS, BOTTLENECK = 16, 12, 192


def samples(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images B 3 D H W (smooth noise and two coordinates), regions bool B 11 D H W, labelled bool B 11."""
    noise = torch.rand(count, 1, SIDE, SIDE, SIDE, generator=generator) * 2 - 1
    image = 3 * F.avg_pool3d(F.pad(noise, [1] * 6, mode="replicate"), 3, stride=1)
    z = torch.linspace(-1, 1, SIDE)[:, None, None].expand_as(image)
    y = z.transpose(2, 3)
    edges = (-math.inf, -0.3, 0.3, math.inf)
    regions = []
    for k in range(8):
        low, high = edges[k // 2 % 3], edges[k // 2 % 3 + 1]
        organ = (image > low) & (image < high) & ((z > 0) == (k // 2 % 2 == 1))
        regions.append(organ & (y > 0.3) if k % 2 else organ)
    regions += [y * (k - 1) + image * 0.5 + z * 0.3 * k > 0.6 for k in range(3)]
    labelled = torch.stack([torch.randperm(len(ROIS), generator=generator) < 2 for _ in range(count)])
    return torch.cat([image, z, y], dim=1), torch.cat(regions, dim=1), labelled


class Trunk(nn.Module):
    """Features and a bottleneck, as the heads want them."""

    def __init__(self, bottleneck_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(3, 24, 3, padding=1), nn.GroupNorm(8, 24), nn.ReLU(), nn.Conv3d(24, CHANNELS, 3, padding=1)
        )
        self.bottom = nn.Sequential(nn.AvgPool3d(8), nn.Conv3d(CHANNELS, bottleneck_channels, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        decoded = self.body(image)
        return decoded, self.bottom(decoded)


class TextNetwork(nn.Module):
    def __init__(self, embeddings: Tensor, default_start: bool) -> None:
        super().__init__()
        self.embeddings, self.trunk = embeddings, Trunk(BOTTLENECK)
        self.head = TextConditionedHead(CHANNELS, BOTTLENECK, embeddings)
        if default_start:
            self.head.controller.reset_parameters()

    def forward(self, image: Tensor) -> Tensor:
        return self.head(*self.trunk(image), self.embeddings)


class TaskNetwork(nn.Module):
    def __init__(self, default_start: bool, strong_code: bool) -> None:
        super().__init__()
        self.trunk, self.features = Trunk(BOTTLENECK), head_features(CHANNELS)
        self.pooled = nn.Sequential(nn.GroupNorm(16, BOTTLENECK), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
        tasks = TASK_CODES.shape[1]
        self.controller = nn.Linear(BOTTLENECK + tasks, parameter_count(2))
        if not default_start:
            start_as_plain_network(self.controller, 2, one_hot=tasks if strong_code else 0)
        task, maps = task_and_map(TASK_CODES, ROIS)
        self.map_of_roi = 2 * task + maps

    def forward(self, image: Tensor) -> Tensor:
        decoded, bottleneck = self.trunk(image)
        pooled = self.pooled(bottleneck).flatten(1)
        codes = torch.eye(TASK_CODES.shape[1])
        B, T = len(image), len(codes)
        condition = torch.cat([pooled[:, None].expand(-1, T, -1), codes[None].expand(B, -1, -1)], dim=2)
        logits = generated_layers(self.features(decoded), self.controller(condition), 2).flatten(1, 2)
        return logits[:, self.map_of_roi]


def dice_after_training(network: nn.Module, steps: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        image, regions, labelled = samples(2, generator)
        loss = supervised_loss(network(image), regions, labelled, SupervisedLoss()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        image, regions, _ = samples(8, torch.Generator().manual_seed(10_000))
        predicted = network(image) > 0
    voxels = (2, 3, 4)
    overlap = (predicted & regions).sum(voxels)
    return (2 * overlap / (predicted.sum(voxels) + regions.sum(voxels)).clamp(min=1)).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    encoder = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    words = torch.tensor(encoder.embed([f"A computerized tomography of a {roi}" for roi in ROIS])).float()
    standardised = dynamic_head.standardised

    def as_they_are(vectors: Tensor, *_: Tensor) -> Tensor:
        return vectors

    rows = {
        "text, default start, vectors as they are": (lambda: TextNetwork(words, True), as_they_are),
        "text, default start, standardised": (lambda: TextNetwork(words, True), standardised),
        "text, fan-in start, vectors as they are": (lambda: TextNetwork(words, False), as_they_are),
        "text, fan-in start, standardised (used)": (lambda: TextNetwork(words, False), standardised),
        "task, default start": (lambda: TaskNetwork(True, False), standardised),
        "task, fan-in start": (lambda: TaskNetwork(False, False), standardised),
        "task, fan-in start, strong code (used)": (lambda: TaskNetwork(False, True), standardised),
    }
    print(f"| start | mean Dice after {options.steps} steps | seeds |\n|---|---|---|")
    for name, (make, prepare) in rows.items():
        dynamic_head.standardised = prepare
        scores = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            scores.append(dice_after_training(make(), options.steps, seed))
        each = ", ".join(f"{score:.2f}" for score in scores)
        print(f"| {name} | {statistics.mean(scores):.2f} | {each} |", flush=True)


if __name__ == "__main__":
    main()
