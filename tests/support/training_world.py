"""Two partially labelled data sets and a fully labelled one, tiny, with the settings of the three training stages."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline_lib.config.augmentation import Augmentation
from pipeline_lib.config.existence import Existence
from pipeline_lib.config.method_settings import Teacher
from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.config.roi_aware import RoiAware
from pipeline_lib.label_bits import write_roi_bits
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.networks.conemos.settings import ConemosUnet
from pipeline_lib.networks.dodnet.settings import DodNet
from pipeline_lib.networks.hermes.settings import HermesUnet
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr
from pipeline_lib.networks.uniseg_unet.settings import UnisegUnet
from pipeline_lib.stages.score_existence import run as existence
from pipeline_lib.stages.score_existence.settings import Settings as ScoreExistenceSettings
from pipeline_lib.stages.train import run as segmentation
from pipeline_lib.stages.train.settings import Settings as TrainSettings
from pipeline_lib.stages.train.settings import TrainingExecution
from pipeline_lib.stages.train_roi_aware import run as roi_aware
from pipeline_lib.stages.train_roi_aware.settings import Settings as TrainRoiAwareSettings
from pipeline_lib.text.embeddings import write_embeddings
from pipeline_lib.volumes.store import open_volume
from tests.support.synthetic import PATCHES, SPACING, WINDOW, case_masks, write_dataset

ROIS = ("liver", "liver_tumor", "spleen")
STRUCTURES = ("liver", "spleen", "stomach")
ROI_STRUCTURES = (("liver",), ("liver",), ("spleen",))
LABELLED = {"livers": ("liver", "liver_tumor"), "spleens": ("spleen",)}
CASES = {"livers": ("liver_1", "liver_2", "liver_3"), "spleens": ("spleen_1", "spleen_2")}
FULL_CASES = ("full_1", "full_2", "full_3", "full_4")
TINY = {
    "swin_unetr": SwinUnetr(kind="swin_unetr", feature_size=12, depths=(1, 1, 1, 1), window_size=4),
    "dodnet": DodNet(kind="dodnet", width=8),
    "conemos": ConemosUnet(kind="conemos", width=4),
    "hermes": HermesUnet(kind="hermes", width=8),
    "uniseg_unet": UnisegUnet(kind="uniseg_unet", width=2),
}
LATENT_CLASS = LatentClass(kind="latent_class", network="swin_unetr", encoder="vectors")
EXECUTION = TrainingExecution(device="cpu", num_workers=0)


@dataclass(frozen=True)
class World:
    """Paths of everything, below one folder."""

    root: Path

    def cases(self, dataset: str) -> Path:
        return self.root / "results" / "volumes" / dataset / "cases.csv"

    def existence(self, dataset: str) -> Path:
        return self.root / "results" / "existence" / f"{dataset}.parquet"

    @property
    def roi_aware(self) -> Path:
        return self.root / "results" / "roi_aware_network"

    @property
    def embeddings(self) -> Path:
        return self.root / "results" / "embeddings" / "vectors.safetensors"

    @property
    def task_codes(self) -> Path:
        return self.root / "results" / "embeddings" / "one_hot.safetensors"

    def roi_aware_paths(self, name="roi_aware_network"):
        folder = self.root / "results" / name
        outputs = roi_aware.Outputs(folder / "model.safetensors", folder / "metrics.json", folder / "history.jsonl")
        return roi_aware.Inputs(self.cases("full")), outputs

    def existence_paths(self, dataset: str):
        inputs = existence.Inputs(self.cases(dataset), self.roi_aware / "model.safetensors")
        return inputs, existence.Outputs(self.existence(dataset))

    def segmentation_paths(self, run: str):
        inputs = segmentation.Inputs(
            tuple(map(self.cases, CASES)),
            tuple(map(self.existence, CASES)),
            self.embeddings,
            self.roi_aware / "model.safetensors",
        )
        folder = self.root / "results" / "models" / run
        return inputs, segmentation.Outputs(folder / "model.safetensors", folder / "history.jsonl")


def build_world(root: Path) -> World:
    """Volumes and embeddings: what the training stages find when they start."""
    world = World(root)
    for dataset, cases in CASES.items():
        write_dataset(world.cases(dataset).parent, dataset, cases, ROIS, LABELLED[dataset])
    write_dataset(world.cases("full").parent, "full", FULL_CASES, STRUCTURES, STRUCTURES)
    vectors = np.random.default_rng(0).normal(size=(len(ROIS), 16)).astype(np.float32)
    write_embeddings(world.embeddings, vectors, ROIS, ROIS, "{}", "")
    write_embeddings(world.task_codes, np.array([[1, 0], [1, 0], [0, 1]], np.float32), ROIS, ROIS, "{}", "")
    return world


def write_truth(world: World, dataset: str, folder: Path) -> Path:
    """Files of the full truth of a data set's cases in `folder`, each on its volume's grid."""
    for case in CASES[dataset]:
        record = open_volume(world.cases(dataset).parent / case).record
        masks = true_masks(world, dataset, case)
        bits = sum(mask.astype(np.uint8) << number for number, mask in enumerate(masks))
        write_roi_bits(folder / f"{case}.nii.gz", bits, record.original, ROIS)
    return folder


def true_masks(world: World, dataset: str, case: str) -> np.ndarray:
    """bool K D H W: where the ROIs of a case are, labelled or not."""
    record = open_volume(world.cases(dataset).parent / case).record
    return case_masks(record.shape, len(ROIS), np.random.default_rng([0, *case.encode()]))


def roi_aware_settings(**changes) -> TrainRoiAwareSettings:
    optimisation = Optimisation(epochs=2, batch_size=2, learning_rate=1e-3)
    return TrainRoiAwareSettings(
        dataset="full",
        cases=FULL_CASES,
        structures=STRUCTURES,
        roi_aware=RoiAware(structures=STRUCTURES, width=4, optimisation=optimisation).model_copy(update=changes),
        patches=PATCHES,
        weak=Augmentation().weak,
        window_hu=WINDOW,
        seed=0,
    )


def existence_settings(dataset: str, **changes) -> ScoreExistenceSettings:
    return ScoreExistenceSettings(
        dataset=dataset,
        cases=CASES[dataset],
        rois=ROIS,
        structures=ROI_STRUCTURES,
        existence=Existence(batch_size=3).model_copy(update=changes),
        patches=PATCHES,
        window_hu=WINDOW,
        seed=0,
    )


def segmentation_settings(run="latent_class", method=LATENT_CLASS, **changes) -> TrainSettings:
    return TrainSettings(
        run=run,
        seed=0,
        method=method,
        network=TINY[method.network],
        teacher=Teacher(),
        optimisation=Optimisation(epochs=2, batch_size=2, learning_rate=1e-3),
        augmentation=Augmentation(),
        patches=PATCHES,
        existence=Existence(),
        rois=ROIS,
        structures=ROI_STRUCTURES,
        labelled=LABELLED,
        cases=CASES,
        spacing_mm=SPACING,
        window_hu=WINDOW,
    ).model_copy(update=changes)


def stage_arguments(stage, settings, execution, inputs, outputs) -> list[str]:
    """The stage's command line, as a rule would write it."""
    words = ["-m", f"pipeline_lib.stages.{stage}.run", "--settings", settings.model_dump_json()]
    if execution is not None:
        words += ["--execution", execution.model_dump_json()]
    for paths in (inputs, outputs):
        for name, value in vars(paths).items():
            if value is None:
                continue
            values = value if isinstance(value, tuple) else (value,)
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    return words


def start_stage(arguments: list[str], folder: Path, processes: int | None = None) -> subprocess.Popen:
    """Start a stage by hand in `folder`, or with torchrun in `processes` processes."""
    launcher = [sys.executable]
    if processes is not None:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*launcher, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def read_history(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
