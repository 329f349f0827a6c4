"""A model as a MONAI bundle: MONAI runs it, and the masks are those of `lacuna predict` to the last voxel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import monai.bundle
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from pipeline_lib.commands.main import main
from pipeline_lib.config.evaluation import Prediction
from pipeline_lib.config.loading import load_config
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.networks.model_description import read_description
from pipeline_lib.prediction.monai_bundle.parts import WriteMasks
from pipeline_lib.scoring.case_scores import columns
from tests.support.grid_fixtures import ORIENTATIONS
from tests.support.small_cts import GRID, write_ct
from tests.support.tiny_model import ROIS, write_tiny_model

BASE = Path(__file__).parents[2]
CONFIG = BASE / "tests" / "configs" / "tiny.yaml"
UNUSED = ("skimage", "sklearn", "tensorboard", "torchvision", "transformers")
DICE = (0.8, 0.9, 0.7, 0.75, 0.85, 0.82, 0.78)
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        **{key: {"type": "string"} for key in ("type", "format", "modality", "dtype")},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
}
STRINGS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors",
           "copyright")  # fmt: skip
MORE_STRINGS = ("data_source", "data_type", "image_classes", "label_classes", "pred_classes", "intended_use")
SCHEMA = {
    "type": "object",
    "required": [*STRINGS, "required_packages_version", "network_data_format"],
    "properties": {
        **{key: {"type": "string"} for key in (*STRINGS, *MORE_STRINGS)},
        **{key: {"type": "object"} for key in ("changelog", "required_packages_version", "eval_metrics")},
        "references": {"type": "array", "items": {"type": "string"}},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "additionalProperties": {"type": "object", "additionalProperties": TENSOR},
        },
    },
}
"""What MONAI's schema of 2024-07-25 demands of metadata.json; it is downloaded otherwise."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle of a model with overlap, flips and post-processing of its own."""
    folder = tmp_path_factory.mktemp("bundle")
    model = write_tiny_model(folder / "model.safetensors", seed=9, run="baseline-seed0")
    row = {"run": "baseline-seed0", "dataset": "lab", "roi": "liver", "voxels_truth": 9, "voxels_prediction": 9}
    rows = [{**dict.fromkeys(columns()), **row, "case": f"case_{dice}", "dice": dice} for dice in DICE]
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)
    (folder / "licence.txt").write_text("For friends.\n")
    words = ["--configfile", CONFIG, "--scores", folder / "scores.csv", "--licence", folder / "licence.txt"]
    words += ["--authors", "A lab", "--overlap", "0.25", "--largest-part", "liver"]
    assert main(["export", *map(str, (model, "--monai-bundle", folder / "liver", *words))]) == 0
    return folder / "liver"


@pytest.fixture(scope="module")
def cts(tmp_path_factory) -> Path:
    """One CT that is flipped and transposed, and one that is oblique."""
    folder = tmp_path_factory.mktemp("cts")
    turned = Geometry(size=(14, 30, 26), spacing_mm=(6, 3, 3), origin_mm=(9, 8, 7), direction=ORIENTATIONS[22])
    a, b = np.cos(0.3), np.sin(0.3)
    oblique = GRID.model_copy(update={"direction": (a, -b, 0.0, b, a, 0.0, 0.0, 0.0, 1.0)})
    write_ct(folder / "turned.nii.gz", turned)
    write_ct(folder / "oblique.nrrd", oblique, seed=1)
    return folder


@pytest.fixture(scope="module")
def predicted(bundle, cts, tmp_path_factory) -> Path:
    """What `lacuna predict` makes of the CTs with the bundle's model file."""
    out = tmp_path_factory.mktemp("predicted")
    model = bundle / "models" / "model.safetensors"
    assert main(["predict", *map(str, (cts, "-o", out, "-m", model, "--format", "labels", "masks"))]) == 0
    return out


def configs(bundle: Path) -> dict[str, str]:
    return {
        "config_file": str(bundle / "configs" / "inference.json"), "meta_file": str(bundle / "configs/metadata.json")
    }  # fmt: skip


def same_files(found: Path, expected: Path) -> int:
    """How many images there are; fails unless they are the same, voxel for voxel and in place."""
    names = sorted(path.relative_to(expected) for path in expected.rglob("*.nii.gz"))
    assert sorted(path.relative_to(found) for path in found.rglob("*.nii.gz")) == names
    for name in names:
        one, other = sitk.ReadImage(str(found / name)), sitk.ReadImage(str(expected / name))
        assert Geometry.from_image(one) == Geometry.from_image(other)
        assert np.array_equal(sitk.GetArrayViewFromImage(one), sitk.GetArrayViewFromImage(other))
    return len(names)


def test_monai_gives_the_masks_of_lacuna_predict_on_any_grid(bundle, cts, predicted, tmp_path):
    more = {"bundle_root": str(bundle), "dataset_dir": str(cts), "output_dir": str(tmp_path)}
    monai.bundle.run(**configs(bundle), **more, formats=["labels", "masks"])
    assert same_files(tmp_path, predicted) == 2 * (1 + len(ROIS))
    for case in ("turned", "oblique"):
        found, expected = (json.loads((folder / case / "result.json").read_text()) for folder in (tmp_path, predicted))
        assert found == expected
        assert (found["overlap"], found["post_processing"]) == (0.25, {"liver": "largest_part"})
        assert sitk.GetArrayFromImage(sitk.ReadImage(str(predicted / case / "masks" / "liver.nii.gz"))).any()


def test_the_command_in_the_bundles_readme_works(bundle, cts, predicted, tmp_path):
    pytest.importorskip("fire", reason="MONAI's command line needs the package fire")
    readme = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    (line,) = (line.strip() for line in readme.splitlines() if line.startswith("    python -m monai.bundle run "))
    words = line.replace("CT", str(cts / "oblique.nrrd")).replace("OUT", str(tmp_path / "out")).split()
    # Optional packages of MONAI look as if they were not installed: they take longer to load than all the rest.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({UNUSED}))\n")
    paths = (str(tmp_path), str(BASE), os.environ.get("PYTHONPATH", ""))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, *words[1:]], cwd=bundle, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name = "oblique/labels.nii.gz"
    found, expected = (sitk.ReadImage(str(folder / name)) for folder in (tmp_path / "out", predicted))
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(expected))


def test_the_metadata_is_what_monai_and_a_reader_need(bundle, tmp_path):
    content = json.loads((bundle / "configs" / "metadata.json").read_text())
    jsonschema.validate(content, SCHEMA)
    # MONAI's own check, which does not download a schema that is there.
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    monai.bundle.verify_metadata(meta_file=configs(bundle)["meta_file"], filepath=str(schema))
    shapes = content["network_data_format"]
    assert shapes["inputs"]["image"]["spatial_shape"] == [32, 32, 64]
    assert list(shapes["outputs"]["pred"]["channel_def"].values()) == list(ROIS)
    labels = shapes["post_processed_outputs"]["pred"]["channel_def"]
    assert labels == {"0": "background", "1": "liver", "2": "liver_tumor", "3": "spleen"}
    assert (content["spacing_mm"], content["window_hu"], content["authors"]) == ([3, 3, 3], [-200, 300], "A lab")
    measured = content["eval_metrics"]["dice"]
    assert list(measured) == ["liver"]
    assert (measured["liver"]["mean"], measured["liver"]["cases"]) == (pytest.approx(np.mean(DICE)), len(DICE))
    low, high = measured["liver"]["interval_95"]
    assert low < np.mean(DICE) < high
    licences = {part["name"]: part["licence"] for part in content["training_data"]}
    assert licences == {part.name: part.licence for part in load_config(CONFIG).datasets.partially_labelled}


def test_monai_finds_the_network_as_the_metadata_describes_it(bundle):
    monai.bundle.verify_net_in_out(net_id="network_def", device="cpu", bundle_root=str(bundle), **configs(bundle))


def test_a_bundle_holds_no_file_that_runs_code_when_it_is_read(bundle):
    """Its configs are MONAI's to run: they call Lacuna's and MONAI's parts, and compute paths and attributes alone."""
    names = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    assert names == ["LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md",
                     "docs/data_license.txt", "models/model.safetensors"]  # fmt: skip
    description, _ = read_description(bundle / "models" / "model.safetensors")
    held = Prediction.model_validate(description["prediction"])
    assert held == Prediction(overlap=0.25, post_processing={"liver": "largest_part"})
    text = (bundle / "configs" / "inference.json").read_text()
    parser = monai.bundle.ConfigParser(json.loads(text))
    targets = {part["_target_"] for part in _dicts(parser.get()) if "_target_" in part}
    assert all(target.startswith(("lacuna.bundle.", "monai.")) for target in targets)
    assert "import" not in text


def _dicts(content):
    if isinstance(content, dict):
        yield content
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _dicts(value)


def test_what_a_bundle_cannot_be_is_one_line_and_writes_nothing(bundle, tmp_path, capsys):
    model = bundle / "models" / "model.safetensors"
    out = tmp_path / "out"
    for words, said in (
        ([], "lacuna export: is not told what to write"),
        (["--monai-bundle", bundle], "is there already"),
        (["--monai-bundle", out, "-o", out], "names the same file as --out"),
        (["--monai-bundle", out, "--licence", tmp_path / "none"], "none: is missing"),
        (["-o", out, "--authors", "A lab"], "--authors: is for a MONAI bundle"),
    ):
        assert main(["export", *map(str, (model, *words))]) == 2
        assert said in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_one_format_may_be_a_text_and_an_unknown_one_is_refused(tmp_path):
    assert WriteMasks(str(tmp_path), 3, "masks").wanted.formats == ("masks",)
    with pytest.raises(UserError, match="--formats: mask is not a format"):
        WriteMasks(str(tmp_path), 3, ["labels", "mask"])


def test_a_bundle_does_not_write_over_results(bundle, cts, tmp_path):
    (tmp_path / "oblique").mkdir()
    more = {"bundle_root": str(bundle), "dataset_dir": str(cts), "output_dir": str(tmp_path)}
    with pytest.raises(Exception) as error:
        monai.bundle.run(**configs(bundle), **more)
    assert "oblique: is there already" in str(error.value.__cause__ or error.value)
