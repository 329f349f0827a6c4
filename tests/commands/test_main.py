"""The command `lacuna`: quick to say what it can do, one line for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lacuna
from pipeline_lib.commands import main as module
from pipeline_lib.commands.main import COMMANDS, main
from pipeline_lib.config.evaluation import Prediction
from pipeline_lib.config.folds import training_cases
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.validation import learned_cases
from pipeline_lib.errors import UserError
from pipeline_lib.methods.lacuna.settings import Lacuna
from pipeline_lib.networks.model_description import method_in_words, read_description
from pipeline_lib.networks.model_file import save_model
from pipeline_lib.scoring.case_scores import columns
from tests.support.synthetic import SPACING, WINDOW, write_masks
from tests.support.tiny_model import network, write_tiny_model

BASE = Path(__file__).parents[2]


def test_the_help_names_every_command_and_loads_nothing_heavy():
    """No torch, and none of what takes as long."""
    code = (
        "import sys\nfrom pipeline_lib.commands.main import main\nassert main(['--help']) == 0\n"
        "loaded = {'torch', 'monai', 'numpy', 'SimpleITK', 'pandas', 'pydantic'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=BASE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"    lacuna {name} " in capsys.readouterr().out


def test_an_unknown_command_is_one_line(capsys):
    assert main(["segment"]) == 2
    assert capsys.readouterr().err == "error: lacuna segment: there is no such command; there are: " + (
        ", ".join(COMMANDS) + "\n"
    )


def test_a_bug_is_a_traceback_and_another_exit_code(capsys, monkeypatch):
    class Broken:
        @staticmethod
        def add_arguments(parser):
            pass

        @staticmethod
        def run(given):
            raise ZeroDivisionError

    monkeypatch.setattr(module.importlib, "import_module", lambda name: Broken)
    assert main(["info"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_info_says_what_decides_whether_a_model_is_of_use(tmp_path, capsys):
    path = write_tiny_model(tmp_path / "model.safetensors", mirrors={"liver": "spleen", "spleen": "liver"})
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    for fact in ("3: liver, liver_tumor, spleen", "3×3×3 mm", "64×32×32", "-200 to 300 HU", "liver/spleen", "teacher"):
        assert fact in said
    assert "the defaults apply" in said


def test_a_method_that_ignores_existence_scores_says_so():
    method = Lacuna(kind="lacuna", network="any", encoder="any")
    assert method_in_words(method.model_dump()) == "lacuna"
    ignoring = method.model_copy(update={"decision": None})
    assert method_in_words(ignoring.model_dump()) == "lacuna, without existence scores"


def test_an_exported_model_says_how_it_predicts(tmp_path, capsys):
    path = write_tiny_model(tmp_path / "model.safetensors")
    out = tmp_path / "given.safetensors"
    assert main(["export", str(path), "-o", str(out), "--largest-part", "liver", "--overlap", "0.25"]) == 0
    description, shapes = read_description(out)
    assert Prediction.model_validate(description["prediction"]) == Prediction(
        overlap=0.25, post_processing={"liver": "largest_part"}
    )
    original, original_shapes = read_description(path)
    assert {key: value for key, value in description.items() if key != "prediction"} == original
    assert shapes == original_shapes
    assert main(["info", str(out)]) == 0
    assert "student, overlap 0.25; post-processing: liver: largest_part" in capsys.readouterr().out
    assert main(["export", str(path), "-o", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_an_export_that_cannot_be_is_one_line_and_writes_nothing(tmp_path, capsys):
    path = write_tiny_model(tmp_path / "model.safetensors")
    description, _ = read_description(path)
    alone = tmp_path / "alone.safetensors"
    save_model(alone, network(1), description)
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    out = str(tmp_path / "out.safetensors")
    for words, said in (
        ([path, "-o", out, "--largest-part", "livr"], "--largest-part: livr is not a ROI of the model; it has liver, "),
        ([alone, "-o", out, "--weights", "teacher"], "holds no teacher"),
        ([path, "-o", out, "--model-card", out], "names the same file as --out"),
        ([path, "-o", out, "--model-card", f"{tmp_path}/file/../out.safetensors"], "names the same file as --out"),
        ([path, "--monai-bundle", out, "-o", f"{out}/a"], "--out: lies in the bundle's folder"),
        (
            [path, "--monai-bundle", out, "--model-card", f"{out}/docs/a.md"],
            "--model-card: lies in the bundle's folder",
        ),
        ([path, "-o", out, "--volumes", tmp_path], "--volumes: is for a calibration"),
        ([path, "-o", out, "--device", "cpu"], "--device: is for a calibration"),
        ([path, "-o", tmp_path / "file" / "out.safetensors"], "cannot be written"),
        ([path, "-o", out, "--model-card", tmp_path / "file" / "card.md"], "cannot be written"),
    ):
        assert main(["export", *map(str, words)]) == 2
        assert said in capsys.readouterr().err
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overlap": 1}, "--overlap: 1 cannot be used"),
        ({"overlap": -0.1}, "--overlap: -0.1 cannot be used"),
        ({"weights": "both"}, "--weights: 'both' cannot be used"),
        ({"largest_part": "liver"}, "give a tuple of ROIs, such as ('liver',)"),
        ({"largest_part": ("livr",)}, "livr is not a ROI of the model"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(tmp_path, options, said):
    path = write_tiny_model(tmp_path / "model.safetensors")
    with pytest.raises(UserError) as error:
        lacuna.load(path, device="cpu", **options)
    assert said in str(error.value)


def test_a_model_card_says_what_was_measured_and_what_was_not(tmp_path, capsys):
    path = write_tiny_model(tmp_path / "model.safetensors", run="latent_class-seed0", seed=0)
    scores = tmp_path / "scores.csv"
    row = {"run": "latent_class-seed0", "dataset": "lab", "roi": "liver", "voxels_truth": 100, "voxels_prediction": 90}
    rows = [
        {**dict.fromkeys(columns()), **row, "case": f"case_{number}", "dice": dice}
        for number, dice in enumerate((0.8, 0.9, 0.7))
    ]
    pd.DataFrame(rows).to_csv(scores, index=False)
    card = tmp_path / "card.md"
    words = ["export", str(path), "-o", str(tmp_path / "a.safetensors"), "--model-card", str(card)]
    assert main([*words, "--scores", str(scores), "--largest-part", "liver"]) == 0
    text = card.read_text(encoding="utf-8")
    assert "| liver | not known | 80.0 (" in text
    assert "; 3) |" in text
    assert "| spleen | not known | not measured |" in text
    assert "how well it finds liver tumor, spleen" in text
    assert "post-processing: liver: largest part" in text
    # Scores of another run are refused, and nothing is written.
    pd.DataFrame(rows).assign(run="baseline-seed0").to_csv(scores, index=False)
    words = ["export", str(path), "-o", str(tmp_path / "b.safetensors"), "--model-card", str(tmp_path / "b.md")]
    assert main([*words, "--scores", str(scores)]) == 2
    assert "scores the run 'baseline-seed0'" in capsys.readouterr().err
    scores.write_text("name\nanything\n")
    assert main([*words, "--scores", str(scores)]) == 2
    assert "is not a table of scores" in capsys.readouterr().err
    assert not (tmp_path / "b.safetensors").exists()
    assert not (tmp_path / "b.md").exists()


def test_an_export_takes_the_section_of_a_config(tmp_path):
    path = write_tiny_model(tmp_path / "model.safetensors")
    config = tmp_path / "tiny.yaml"
    text = (BASE / "tests" / "configs" / "tiny.yaml").read_text(encoding="utf-8")
    config.write_text(f"{text}\ninference: {{flip_tta: true}}\n" if "inference:" not in text else text)
    out = tmp_path / "given.safetensors"
    assert main(["export", str(path), "-o", str(out), "--configfile", str(config), "--weights", "teacher",
                 "--model-card", str(tmp_path / "card.md")]) == 0  # fmt: skip
    held = read_description(out)[0]["prediction"]
    assert held["weights"] == "teacher"
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    for dataset in load_config(config).datasets.partially_labelled:
        assert f"| {dataset.name} | {len(dataset.split_cases('train'))} |" in card
        assert dataset.licence in card


def test_an_export_can_be_calibrated_on_cases_of_the_pipeline(tmp_path, capsys):
    config = config_of_more_cases(tmp_path)
    datasets, rois = load_config(config).datasets.partially_labelled, load_config(config).roi_names
    path = write_model_of_volumes(tmp_path / "model.safetensors", rois)
    out = tmp_path / "given.safetensors"
    write_volumes(tmp_path / "volumes", config, {each.name: each.split_cases("test") for each in datasets})
    words = ["export", str(path), "-o", str(out), "--overlap", "0", "--device", "cpu"]
    assert main([*words, "--calibrate", "test"]) == 2
    assert "--calibrate: needs the cases of a config" in capsys.readouterr().err
    words += ["--configfile", str(config), "--volumes", str(tmp_path / "volumes")]
    assert main([*words, "--calibrate", "held-out"]) == 2
    assert "names no case: the config holds none out" in capsys.readouterr().err
    assert main([*words, "--calibrate", "out-of-fold"]) == 2
    assert "names no case: the model is not that of a fold" in capsys.readouterr().err
    card = tmp_path / "card.md"
    assert main([*words, "--calibrate", "test", "--model-card", str(card)]) == 0
    held = read_description(out)[0]["calibration"]
    cases = {roi: sum(len(each.split_cases("test")) for each in datasets if roi in each.labels) for roi in rois}
    assert {roi: curve["masks"] for roi, curve in held["rois"].items()} == cases
    said = f"fitted on {sum(cases.values())} masks of the test cases, so their scores do not show how well it does"
    assert said in card.read_text(encoding="utf-8")
    assert main(["info", str(out)]) == 0
    assert f"calibrated on {sum(cases.values())} masks of test cases" in capsys.readouterr().out
    # A copy of the copy keeps it only as long as it predicts in the same way.
    again = ["export", str(out), "-o"]
    assert main([*again, str(tmp_path / "same.safetensors")]) == 0
    assert read_description(tmp_path / "same.safetensors")[0]["calibration"] == held
    assert main([*again, str(tmp_path / "other.safetensors"), "--overlap", "0.5"]) == 0
    assert "the calibration of the model is left out" in capsys.readouterr().err
    assert "calibration" not in read_description(tmp_path / "other.safetensors")[0]


@pytest.mark.parametrize(
    ("chosen", "fold", "fraction"), [("held-out", None, 0.25), ("held-out", 1, 0.5), ("out-of-fold", 1, 0.5)]
)
def test_a_calibration_on_held_out_cases_takes_none_that_the_run_learned_from(tmp_path, capsys, chosen, fold, fraction):
    """Volumes of other cases than those do not exist."""
    more = f"validation: {{fraction: {fraction}}}\n" + ("" if fold is None else "folds: 2\n")
    path = config_of_more_cases(tmp_path, more)
    config, run = load_config(path), "baseline-seed0" + ("" if fold is None else f"-fold{fold}")
    datasets, rois, learned = config.datasets.partially_labelled, config.roi_names, learned_cases(config, fold)
    if chosen == "held-out":
        known, unseen = learned, {each.name: training_cases(config, each, fold) for each in datasets}
    else:
        known = {each.name: training_cases(config, each, fold) for each in datasets}
        unseen = {each.name: each.split_cases("train") for each in datasets}
    held_out = {name: sorted({*cases} - {*known[name]}) for name, cases in unseen.items()}
    model = write_model_of_volumes(tmp_path / "model.safetensors", rois, run=run)
    write_volumes(tmp_path / "volumes", path, held_out)
    words = ["--overlap", 0, "--device", "cpu", "--volumes", tmp_path / "volumes", "--calibrate", chosen]
    out = tmp_path / "given.safetensors"
    assert main(["export", *map(str, (model, "-o", out, "--configfile", path, *words))]) == 0
    held = read_description(out)[0]["calibration"]
    assert held["cases"] == chosen
    labelling = {roi: sum(len(held_out[each.name]) for each in datasets if roi in each.labels) for roi in rois}
    assert {roi: curve["masks"] for roi, curve in held["rois"].items()} == labelling
    if fold is not None:
        without = config_of_more_cases(tmp_path, "validation: {fraction: 0.5}\n")
        assert main(["export", *map(str, (model, "-o", tmp_path / "no", "--configfile", without, *words))]) == 2
        assert "--configfile: has no fold 1, and the model is the run baseline-seed0-fold1" in capsys.readouterr().err


def config_of_more_cases(folder, more=""):
    """tiny.yaml with enough cases for a calibration, and the sections `more`."""
    text = (BASE / "tests" / "configs" / "tiny.yaml").read_text(encoding="utf-8")
    (folder / "tiny.yaml").write_text(text.replace("cases: 4", "cases: 12") + more)
    return folder / "tiny.yaml"


def write_model_of_volumes(path, rois, **more):
    """A tiny model of the spacing and window that `write_volumes` writes."""
    return write_tiny_model(path, seed=9, rois=rois, spacing_mm=SPACING, window_hu=WINDOW, **more)


def write_volumes(folder, config, cases):
    """Volumes of noise of `cases` (data set → cases), with what their data sets label."""
    random, shape, rois = np.random.default_rng(0), (32, 32, 64), load_config(config).roi_names
    for dataset in load_config(config).datasets.partially_labelled:
        labelled = tuple(roi for roi in rois if roi in dataset.labels)
        for case in cases[dataset.name]:
            masks, image = random.random((len(rois), *shape)) < 0.5, random.normal(0, 90, shape)
            write_masks(folder / dataset.name, dataset.name, case, rois, labelled, image, masks)


def test_status_speaks_of_the_folder_that_is_named(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == f"error: {tmp_path}: has no run of Snakemake; name the working directory of the run\n"
