"""What each method costs: time and memory of a training step, and time of a prediction, relative to baseline.

    python benchmarks/methods.py                             # every method of config/mots.yaml, at the demo's sizes
    python benchmarks/methods.py --rounds 5 baseline lacuna  # some of them

Patches, batch and SwinUNETR are those of config/config.yaml; the other networks have a quarter of their published
width, as DoDNet has there. Crops come from made-up volumes of seven data sets, 11 ROIs and existence scores of every
kind; steps are those of the second half of a training, in which all terms count. Each row of each round runs in a
process of its own, for the memory, and the rows take turns, so that whatever else the machine does meets all alike.
Processor seconds of one thread, which neighbours on the machine disturb less: the median of a round's steps after two
that do not count, and the median over rounds of the ratio to the round's baseline. Memory is the process's peak above
what it had before the network was built. A prediction is that of one patch, in eval mode. The table is that of
docs/performance.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch import nn

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.method_settings import Teacher
from pipeline_lib.config.methods import Method
from pipeline_lib.config.networks import Network
from pipeline_lib.config.optimisation import Execution, Optimisation
from pipeline_lib.config.rois import existence_structures
from pipeline_lib.config.schema import Config
from pipeline_lib.data.crops import CropPlan, TrainingCase
from pipeline_lib.data.reading import CropReader
from pipeline_lib.measurement.cases import write_cases
from pipeline_lib.measurement.sizes import SMALL
from pipeline_lib.measurement.steps import view_maker_of
from pipeline_lib.methods.build import build_task
from pipeline_lib.methods.segmentation_task import Ingredients
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.memory_format import memory_format
from pipeline_lib.stages.train.parts import divisible
from pipeline_lib.training.distributed import Distributed, init_distributed
from pipeline_lib.training.machine_use import peak_memory_mib
from pipeline_lib.training.step import Stepper

BASE = Path(__file__).parents[1]
BASELINE = "baseline"
WARM_UP, STEPS = 2, 5
DATA_SETS = 7
CPU = torch.device("cpu")
EXECUTION = Execution(device="cpu")
PASSES = {None: "1", "outputs": "1", "head": "1, T heads", "prompt": "1 encoder, T decoders", "network": "T"}
"""By what each of T data sets has of its own."""


def made_up_cases(folder: Path) -> tuple[TrainingCase, ...]:
    cases = write_cases(folder, SMALL.patch, SMALL.rois)
    return tuple(replace(case, dataset=f"set_{number % DATA_SETS}") for number, case in enumerate(cases))


def measured(name: str, config: Config, cases: tuple[TrainingCase, ...]) -> dict[str, float]:
    """Seconds of a step and of a prediction, MiB at the peak and parameters of one method, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = psutil.Process().memory_info().rss / 2**20
    method, seconds = config.methods[name], []
    with init_distributed(EXECUTION) as distributed:
        stepper = stepper_of(method, config, cases, distributed)
        plan = CropPlan.from_cases(cases, stepper.optimisation, 0, method.sampling)
        reader = CropReader(cases, plan, SMALL.patch, config.augmentation.weak)
        for step in range(WARM_UP + STEPS):
            crops = [reader.read(sample) for sample in plan.samples(step, 0, 1)]
            began = time.process_time()
            # In the second half of a training all terms of every method count.
            stepper.train_step(stepper.steps // 2 + step, crops, stop_asked=False)
            seconds.append(time.process_time() - began)
    memory = peak_memory_mib(CPU) - before
    student = stepper.task.networks["student"]
    return {
        "step": statistics.median(seconds[WARM_UP:]),
        "memory": memory,
        "prediction": prediction_seconds(student),
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
    }


def stepper_of(method: Method, config: Config, cases: Sequence[TrainingCase], distributed: Distributed) -> Stepper:
    """The stepper of a method whose ROIs and structures are those of `config`."""
    network = small(config.networks[method.network])
    embeddings = torch.randn(SMALL.rois, SMALL.embedding)
    if network.conditioning == "one_hot":
        embeddings = F.one_hot(torch.arange(SMALL.rois) % DATA_SETS, DATA_SETS).float()
    labelled: dict[str, set[str]] = {}
    for case in cases:
        own = (roi for roi, has in zip(config.roi_names, case.labelled, strict=True) if has)
        labelled.setdefault(case.dataset, set()).update(own)

    def new_network() -> nn.Module:
        rois = config.roi_names
        own = [[roi for roi in rois if roi in of_data_set] for of_data_set in labelled.values()]
        built = build_segmentation_network(network, embeddings, rois, labelled=own, patch=SMALL.patch)
        return built.to(memory_format=memory_format(EXECUTION, built, CPU))

    ingredients = Ingredients(
        new_network=new_network,
        rois=config.roi_names,
        structures=existence_structures(config.rois),
        teacher=Teacher(),
        scorer=None,
        datasets=tuple(labelled),
    )
    return Stepper(
        build_task(method, ingredients),
        view_maker_of(SMALL, CPU),
        Optimisation(batch_size=SMALL.batch_size),
        EXECUTION,
        distributed,
        steps=1000,
        title=method.kind,
        divisible=divisible(method),
    )


def small(network: Network) -> Network:
    """`network` at the demo's size."""
    if network.kind == "swin_unetr":
        sizes = {name: getattr(SMALL.network, name) for name in ("feature_size", "depths", "window_size")}
        return network.model_copy(update=sizes)
    return network.model_copy(update={"width": network.width // 4})


@torch.no_grad()
def prediction_seconds(network: nn.Module) -> float:
    """Median processor seconds of one patch, in eval mode, after one that does not count."""
    network.eval()
    image, seconds = torch.randn(1, 1, *SMALL.patch), []
    for _ in range(1 + STEPS // 2):
        began = time.process_time()
        network(image)
        seconds.append(time.process_time() - began)
    return statistics.median(seconds[1:])


def table(config: Config, rounds: Sequence[dict[str, dict[str, float]]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| method | extra data | network | parameters, M | step | memory | prediction | passes per prediction |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in rounds[0]:
        method = config.methods[name]
        network, encoder = config.networks[method.network], config.text.encoders[method.encoder]
        ratios = {
            key: statistics.median(found[name][key] / found[BASELINE][key] for found in rounds)
            for key in ("step", "memory", "prediction")
        }
        own = "common trunk" if network.kind == "swin_unetr" else "own"
        passes = "K" if method.asks_one_roi else PASSES[network.per_data_set]
        extra = "fully labelled set" if method.needs_existence else ""
        if getattr(network, "embedding_scale", None) == "raw" and encoder.is_downloaded:
            extra = "CLIP's text encoder"
        parameters = rounds[0][name]["parameters"] / 1e6
        numbers = " | ".join(f"{ratio:.2f}" for ratio in ratios.values())
        yield f"| `{name}` | {extra} | {own} | {parameters:.2f} | {numbers} | {passes} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="METHOD", help="methods of config/mots.yaml; all without any")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = load_config(BASE / "config" / "mots.yaml", BASE)
    names = dict.fromkeys([BASELINE, *(options.names or config.methods)])
    # The process that others are forked from imports torch once and computes nothing.
    context, rounds = multiprocessing.get_context("forkserver"), []
    context.set_forkserver_preload(["pipeline_lib.stages.train.run"])
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as fresh,
    ):
        cases = made_up_cases(Path(folder))
        for number in range(options.rounds):
            found: dict[str, dict[str, float]] = {}
            for name in names:
                found[name] = row = fresh.submit(measured, name, config, cases).result()
                print(
                    f"round {number + 1}, {name}: {row['step']:.3f} s a step, {row['memory']:.0f} MiB, "
                    f"{row['prediction']:.3f} s a prediction, {row['parameters'] / 1e6:.2f} M parameters",
                    flush=True,
                )
            rounds.append(found)
    print("\n".join(table(config, rounds)))


if __name__ == "__main__":
    main()
