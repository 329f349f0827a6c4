"""Time and memory from a CT file to a file of labels, on a CPU: `lacuna predict`, nnU-Net's predictor and MONAI.

    python benchmarks/predict.py --slices 100 --rois 11 104
    python benchmarks/predict.py --slices 768 --rois 104 --only lacuna nnunet --limit 60

The CT is a body with lungs, in air, on a table. Each row is a process of its own, one after the other, from its start
to the label map on the grid of the CT. All weights are random. All three compute windows of 128×128×128 voxels of
1.5 mm, neighbours overlapping by half, blended by Gaussian weights, without mirroring. Half is our default and
that of nnU-Net; in MONAI it is a quarter, but its SwinUNETR bundle takes half:

- lacuna: `lacuna predict` with nothing but a CT, an output folder and a model: the published SwinUNETR of feature size
  48 with the text-conditioned head, and the precision that it chooses here. It lays its windows over the patient and
  the table, the others over the whole CT;
- nnunet: `nnUNetPredictor` on the architecture that its planner gives for a CT at 1.5 mm (PlainConvUNet, 6 stages of 32
  to 320 features, softmax of ROIs and background), with its own preprocessing, resampling and export. It computes in
  float32 on a CPU. It runs without worker processes, which for one CT only cost;
- monai: `SlidingWindowInferer` around MONAI's SwinUNETR of feature size 48 with one output for each ROI and for the
  background, in float32. Transforms are those of MONAI's bundles: up to 50 ROIs the probabilities are resampled to the
  CT and then made labels (swin_unetr_btcv_segmentation), above that it is the other way round, with the nearest voxel
  (wholeBody_ct_segmentation), which is cheaper and less exact.

Probabilities of random weights are noise about one half. That is the worst case for lacuna, which keeps them
compressed and leaves out the parts of the CT where a ROI's are 0; to the others it makes no difference. Memory is the
largest sum of the resident sizes of a row's processes, sampled. A row that passes `--limit` GB is stopped. On a machine
with other work compare processor seconds. A peer whose package is missing is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk
import torch

from pipeline_lib.inference.sliding_window import window_starts

PATCH, SPACING_MM, OVERLAP = 128, 1.5, 0.5
WINDOW_HU = (-325.0, 325.0)
PACKAGES = {"lacuna": "pipeline_lib", "nnunet": "nnunetv2", "monai": "monai"}
MOST_ROIS_RESAMPLED = 50


@dataclass(frozen=True)
class Measured:
    seconds: float
    processor_seconds: float
    bytes: int
    stopped: bool


def write_ct(path: Path, slices: int, pixels: int, spacing_mm: list[float]) -> tuple[int, ...]:
    """A CT in int16 HU; returns its size in voxels of `SPACING_MM`, z y x."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[-1 : 1 : pixels * 1j, -1 : 1 : pixels * 1j]
    body = (x / 0.88) ** 2 + (y / 0.62) ** 2 < 1
    lungs = ((abs(x) - 0.42) / 0.3) ** 2 + (y / 0.42) ** 2 < 1
    table = (abs(y - 0.7 + 0.08 * x**2) < 0.012) & (abs(x) < 0.95)
    image = np.empty((slices, pixels, pixels), np.int16)
    for z, plane in enumerate(image):
        mean = np.where(body, 50, -1000) + np.where(lungs & (z > slices // 2), -850, 0) + np.where(table, 700, 0)
        plane[:] = mean + rng.normal(0, 15, mean.shape)
    ct = sitk.GetImageFromArray(image)
    ct.SetSpacing(spacing_mm)
    sitk.WriteImage(ct, str(path), useCompression=True)
    return tuple(round(length * step / SPACING_MM) for length, step in zip(image.shape, spacing_mm[::-1], strict=True))


def write_lacuna_model(path: Path, rois: list[str]) -> None:
    from pipeline_lib.config.volumes import Patches
    from pipeline_lib.networks.build import build_segmentation_network
    from pipeline_lib.networks.model_file import save_model
    from pipeline_lib.networks.swin_unetr.settings import SwinUnetr

    torch.manual_seed(0)
    sizes = SwinUnetr(kind="swin_unetr")
    description = {
        "method": {"kind": "labels_alone", "network": "swin_unetr", "encoder": "random"},
        "network": sizes.model_dump(mode="json"),
        "rois": rois,
        "patches": Patches(size_voxels=(PATCH,) * 3).model_dump(mode="json"),
        "spacing_mm": (SPACING_MM,) * 3,
        "window_hu": WINDOW_HU,
    }
    save_model(path, build_segmentation_network(sizes, torch.randn(len(rois), 512), rois), description)


def write_nnunet_model(folder: Path, rois: list[str]) -> None:
    """A folder as nnU-Net's training leaves it; the plans are what its planner gives at 1.5 mm for large CTs."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    stages = 6
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages, "features_per_stage": [32, 64, 128, 256, 320, 320],
            "conv_op": "torch.nn.modules.conv.Conv3d", "conv_bias": True, "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
            "n_conv_per_stage": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1),
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None, "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }  # fmt: skip
    configuration: dict[str, object] = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": [PATCH] * 3, "median_image_size_in_voxels": [250.0] * 3, "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False], "architecture": architecture,
        "batch_dice": False,
    }  # fmt: skip
    for kind, is_labels, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1)):
        options = {"is_seg": is_labels, "order": order, "order_z": 0, "force_separate_z": None}
        configuration[f"resampling_fn_{kind}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{kind}_kwargs"] = options
    intensities = {"mean": 50.0, "std": 100.0, "percentile_00_5": WINDOW_HU[0], "percentile_99_5": WINDOW_HU[1]}
    plans = {
        "dataset_name": "Dataset001", "plans_name": "nnUNetPlans", "experiment_planner_used": "ExperimentPlanner",
        "original_median_spacing_after_transp": [SPACING_MM] * 3, "original_median_shape_after_transp": [250] * 3,
        "image_reader_writer": "SimpleITKIO", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration}, "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }  # fmt: skip
    labels = {"background": 0} | {roi: value for value, roi in enumerate(rois, start=1)}
    data_set = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    network = get_network_from_plans(*architecture.values(), 1, len(labels), deep_supervision=False)
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(data_set))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def predict_with_nnunet(ct: Path, model: Path, out: Path) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    device = torch.device("cpu")
    predictor = nnUNetPredictor(tile_step_size=1 - OVERLAP, use_mirroring=False, device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    predictor.predict_from_files_sequential([[str(ct)]], [str(out / "labels")])


def monai_network(channels: int):
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(in_channels=1, out_channels=channels, feature_size=48)


def predict_with_monai(ct: Path, model: Path, out: Path) -> None:
    from monai import transforms as tr
    from monai.inferers import SlidingWindowInferer

    weights = torch.load(model, weights_only=True)
    channels = len(weights["out.conv.conv.bias"])
    network = monai_network(channels).eval()
    network.load_state_dict(weights)
    low, high = WINDOW_HU
    before = tr.Compose(
        [
            tr.LoadImaged("image"),
            tr.EnsureChannelFirstd("image"),
            tr.Orientationd("image", axcodes="RAS"),
            tr.Spacingd("image", pixdim=(SPACING_MM,) * 3, mode="bilinear"),
            tr.ScaleIntensityRanged("image", a_min=low, a_max=high, b_min=-1, b_max=1, clip=True),
        ]
    )
    first = channels - 1 > MOST_ROIS_RESAMPLED
    to_labels = tr.AsDiscreted("pred", argmax=True)
    to_ct = tr.Invertd("pred", transform=before, orig_keys="image", nearest_interp=first, to_tensor=True)
    after = tr.Compose(
        [
            tr.Activationsd("pred", softmax=True),
            *((to_labels, to_ct) if first else (to_ct, to_labels)),
            tr.SaveImaged("pred", output_dir=out, output_dtype=np.uint8, print_log=False),
        ]
    )
    data = before({"image": str(ct)})
    inferer = SlidingWindowInferer((PATCH,) * 3, sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
    with torch.inference_mode():
        data["pred"] = inferer(data["image"][None], network)[0]
        after(data)


def write_model(kind: str, path: Path, rois: list[str]) -> None:
    if kind == "lacuna":
        write_lacuna_model(path, rois)
    elif kind == "nnunet":
        write_nnunet_model(path, rois)
    else:
        torch.manual_seed(0)
        torch.save(monai_network(1 + len(rois)).state_dict(), path)


def measure(kind: str, ct: Path, model: Path, out: Path, options: argparse.Namespace) -> Measured:
    """One row's process, watched until it ends. Raises CalledProcessError if it fails."""
    out.mkdir()
    command = [sys.executable, __file__, "--run", kind, str(ct), str(model), str(out)]
    if kind == "lacuna":
        program = [sys.executable, "-m", "pipeline_lib.commands.main", "predict"]
        command = [*program, str(ct), "-o", str(out), "--model", str(model), "--device", "cpu"]
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "nnUNet_def_n_proc": threads, "CUDA_VISIBLE_DEVICES": ""}
    started, largest = time.perf_counter(), 0
    with (out / "log.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        ended = 0
        while not ended:
            largest = max(largest, resident(process.pid))
            if largest > options.limit * 1e9:
                process.kill()
            time.sleep(0.2)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    seconds, stopped = time.perf_counter() - started, largest > options.limit * 1e9
    if not stopped and (status or not list(out.rglob("*.nii.gz"))):
        raise RuntimeError(f"{' '.join(command)} failed:\n{(out / 'log.txt').read_text()[-3000:]}")
    largest = max(largest, usage.ru_maxrss * 1024)
    return Measured(seconds, usage.ru_utime + usage.ru_stime, largest, stopped)


def resident(pid: int) -> int:
    """Bytes of a process and all that it started."""
    total = 0
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def compare(rois: int, folder: Path, ct: Path, options: argparse.Namespace) -> None:
    names = [f"roi_{number}" for number in range(rois)]
    found = {}
    print(f"\n| {rois} ROIs | s | processor s | MB |\n|---|---|---|---|")
    for kind in options.only:
        model = folder / f"{kind}_{rois}{'.safetensors' if kind == 'lacuna' else ''}"
        write_model(kind, model, names)
        one = found[kind] = measure(kind, ct, model, folder / f"out_{kind}_{rois}", options)
        times = "stopped | – | more than " if one.stopped else f"{one.seconds:.0f} | {one.processor_seconds:.0f} | "
        print(f"| {kind} | {times}{one.bytes / 1e6:.0f} |", flush=True)
    ours = found.pop("lacuna", None)
    for kind, one in found.items() if ours else ():
        pairs = ((one.seconds, ours.seconds), (one.processor_seconds, ours.processor_seconds))
        ratios = "– | –" if one.stopped else " | ".join(f"{their / our:.2f}" for their, our in pairs)
        print(f"| {kind} / lacuna | {ratios} | {one.bytes / ours.bytes:.2f} |")


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        run = {"nnunet": predict_with_nnunet, "monai": predict_with_monai}[sys.argv[2]]
        run(*map(Path, sys.argv[3:]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--pixels", type=int, default=512, help="on a side of a slice")
    parser.add_argument("--spacing", type=float, nargs=3, default=[0.74, 0.74, 1.25], metavar="MM", help="x y z")
    parser.add_argument("--rois", type=int, nargs="+", default=[11, 104])
    parser.add_argument("--only", nargs="+", choices=PACKAGES, default=list(PACKAGES), help="in this order")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=math.inf, help="GB of memory at which a row is stopped")
    options = parser.parse_args()
    missing = [kind for kind in options.only if importlib.util.find_spec(PACKAGES[kind]) is None]
    for kind in missing:
        print(f"{kind} is left out: the package {PACKAGES[kind]} is missing")
    options.only = [kind for kind in options.only if kind not in missing]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        depth, height, width = write_ct(folder / "ct.nii.gz", options.slices, options.pixels, options.spacing)
        windows = math.prod(len(window_starts(length, PATCH, OVERLAP)) for length in (depth, height, width))
        size, spacing = f"{options.pixels}×{options.pixels}×{options.slices}", "×".join(map(str, options.spacing))
        print(
            f"{size} voxels of {spacing} mm, {width}×{height}×{depth} of {SPACING_MM} mm, "
            f"{windows} windows over the whole CT, {options.threads} thread(s)"
        )
        for rois in options.rois:
            compare(rois, folder, folder / "ct.nii.gz", options)


if __name__ == "__main__":
    main()
