"""`lacuna plan`: what fits, what the data look like, and what is written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from pipeline_lib.commands.main import main
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.schema import Config
from pipeline_lib.measurement import advice
from pipeline_lib.measurement.advice import Fit, advised, largest_patch
from pipeline_lib.measurement.cards import CARDS, Card
from pipeline_lib.measurement.counting import Rates
from pipeline_lib.measurement.estimate import estimate
from pipeline_lib.measurement.fingerprint import Fingerprint, fingerprint
from pipeline_lib.measurement.plan import PRESET_MEMORY_GIB, plan, steps_of
from pipeline_lib.measurement.plan_text import fragment, lines
from pipeline_lib.measurement.sizes import PAPER, SMALL
from pipeline_lib.tools.disk import disk_in_words
from tests.config.test_no_labels import with_plain
from tests.support.synthetic import write_case

BASE = Path(__file__).parents[2]
GIB = 2**30
CARD = Card(24, Rates(1, 1))


@pytest.fixture
def config() -> Config:
    return load_config(BASE / "config" / "config.yaml", BASE)


@pytest.fixture
def reckoned(monkeypatch):
    """Estimates of 1 GiB of weights and gradients, and so much a sample of the paper's patch for each checkpointing."""
    per_sample = {"none": (4.0, 1.0), "transformer": (3.0, 1.02), "all": (1.0, 1.3)}

    def fake(variant, sizes, device):
        gib, seconds = per_sample[sizes.execution.gradient_checkpointing]
        share = sizes.batch_size * np.prod(sizes.patch) / np.prod(PAPER.patch)
        return SimpleNamespace(
            peak=(1 + gib * share) * GIB, gradients=GIB, seconds=lambda rates: seconds * sizes.batch_size
        )

    monkeypatch.setattr(advice, "estimate", fake)


@pytest.mark.parametrize(
    ("gib", "expected"),
    [
        (80, (1, "none")),  # 49 GiB
        (48, (1, "transformer")),  # 37; about as fast as `none` in two parts
        (24, (2, "transformer")),  # 20, and 26 with `none`
        (7, (12, "none")),  # 6 GiB: `all` in three parts fits too, but is slower by more than the tolerance
    ],
)
def test_the_fewest_parts_among_the_fastest_that_fit(reckoned, gib, expected):
    fit = advised([PAPER], CARD._replace(gib=gib + 1.5))
    assert (fit.parts, fit.checkpointing) == expected
    assert max(fit.peaks) <= Card(gib + 1.5, Rates(1, 1)).usable_bytes


def test_what_fits_must_fit_every_network(reckoned):
    small = replace(PAPER, patch=(32, 64, 64))
    fit = advised([small, PAPER], CARD)
    assert (fit.parts, fit.checkpointing) == (2, "transformer")
    assert fit.peaks[0] < fit.peaks[1]


def test_a_patch_that_does_not_fit_gives_way_where_it_is_longest(reckoned):
    assert largest_patch([PAPER], CARD, None) == PAPER.patch
    least = Card(3.6, Rates(1, 1))  # 2.7 GiB: weights, waiting gradients and 0.7 of a sample
    found = largest_patch([PAPER], least, None)
    assert found == (96, 128, 128)
    # Beside a volume that is short from feet to head, the patch is longest there.
    assert largest_patch([PAPER], least, (96, 500, 500)) == (64, 160, 160)
    assert largest_patch([PAPER], Card(2, Rates(1, 1)), None) is None


@pytest.mark.parametrize("parts", [1, 2])
def test_two_estimates_tell_those_of_other_batches(parts):
    """What is drawn as a line through batches of 1 and 2 against the step itself, with fake tensors."""
    sizes = replace(SMALL, batch_size=4)
    found = {(fit.parts, fit.checkpointing): fit for fit in advice.fits([sizes], CARD)}[parts, "transformer"]
    exact = estimate("ours", Fit(parts, "transformer", (), ()).applied(sizes), "cuda")
    assert found.peaks[0] == pytest.approx(exact.peak, rel=0.03)
    assert found.seconds[0] == pytest.approx(exact.seconds(CARD.rates), rel=0.03)


def test_the_fingerprint_is_that_of_the_volumes(config, tmp_path):
    assert fingerprint(config, tmp_path) is None
    dataset = config.datasets.partially_labelled[0]
    folder = tmp_path / "results" / "volumes" / dataset.name
    rois = tuple(dataset.labels)
    records = [write_case(folder, dataset.name, name, rois, rois) for name in dataset.used_cases[:3]]
    found = fingerprint(config, tmp_path)
    assert (found.cases, found.source) == (3, "volumes")
    assert found.spacing_mm == records[0].original.spacing_mm
    x, y, z = records[0].spacing_mm
    for roi in found.volumes_ml:
        counts = [record.voxels[roi] for record in records if record.voxels.get(roi)]
        assert found.volumes_ml[roi] == pytest.approx(np.median(counts) * x * y * z / 1000)


def test_without_volumes_the_headers_of_raw_cases_are_read(config, tmp_path):
    dataset = load_config(BASE / "config" / "mots.yaml", BASE).dataset("Task09_Spleen")
    only = config.model_copy(update={"datasets": config.datasets.model_copy(update={"partially_labelled": (dataset,)})})
    folder = tmp_path / "resources" / "raw" / dataset.name / dataset.root / "imagesTr"
    folder.mkdir(parents=True)
    for number, name in enumerate(dataset.used_cases[:3]):
        image = sitk.Image(20, 30, 10 + number, sitk.sitkInt16)
        image.SetSpacing((0.7, 0.7, 5.0))
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    (folder / f"{dataset.used_cases[3]}.nii.gz").write_bytes(b"damaged")
    found = fingerprint(only, tmp_path)
    assert (found.cases, found.source, found.volumes_ml) == (3, "headers of raw cases", {})
    assert found.spacing_mm == pytest.approx((0.7, 0.7, 5.0))
    # 20 × 0.7 mm and 11 × 5 mm at the config's 7 mm.
    assert found.size_voxels == (2, 3, 8)


def test_a_plan_names_the_cases_without_labels_and_counts_the_steps_that_each_method_takes(tmp_path, reckoned):
    content = yaml.safe_load((BASE / "config" / "config.yaml").read_text())
    config = load_config(with_plain(content) | {"compare": ["baseline", "latent_class"]}, BASE)
    said = list(lines(plan(config, CARDS["RTX 3090"], 1, tmp_path), "RTX 3090", ""))
    assert "no labels plain, 30 cases: methods that learn from labels alone leave them out" in said
    least, most = (steps_of(config, config.methods[name]) for name in ("baseline", "latent_class"))
    assert any(f"2 trainings of {least:,} to {most:,} steps" in line for line in said)


def test_a_plan_says_what_it_knows_and_that_it_is_reckoned(config, tmp_path, reckoned):
    made = plan(config, CARDS["RTX 3090"], 1, tmp_path)
    said = "\n".join(lines(made, "RTX 3090", disk_in_words(config, tmp_path)))
    for fact in (
        "neither volumes nor raw cases",
        "1 × RTX 3090, 24.0 GiB",
        "patch 64×32×32, batch 2: 2 a GPU, gradient_accumulation_steps 1, gradient_checkpointing none",
        "reckoned, nothing was measured",
        f"{len(config.trainings)} trainings of {steps_of(config, config.methods['latent_class']):,} steps",
        "volumes",
    ):
        assert fact in said
    content = yaml.safe_load(fragment(made, "RTX 3090"))
    assert content == {"execution": {"gradient_accumulation_steps": 1, "gradient_checkpointing": "none"}}
    old = plan(config, CARDS["RTX 2080 Ti"], 1, tmp_path)
    assert yaml.safe_load(fragment(old, "RTX 2080 Ti"))["execution"]["precision"] == "float16"


def test_a_plan_says_when_a_patch_sees_little_of_a_volume(config, tmp_path, reckoned):
    """The patch is 64×32×32 voxels."""
    made = plan(config, CARDS["RTX 3090"], 1, tmp_path)
    x, y, z = config.volumes.spacing_mm
    data = Fingerprint(cases=3, source="volumes", spacing_mm=(1, 1, 1), size_voxels=(64, 64, 64), volumes_ml={})
    said = "\n".join(lines(replace(made, data=data), "RTX 3090", ""))
    assert f"spacing   {x:g}×{y:g}×{z:g} mm: a patch holds 25 % of a median volume" in said
    little = data._replace(size_voxels=(128, 64, 64))
    said = "\n".join(lines(replace(made, data=little), "RTX 3090", ""))
    # Half of the volume's 1/8 is missing: 2^(1/3) times as coarse, in steps of 3 %.
    assert "a patch holds 12 % of a median volume; at 8.9×8.9×8.9 mm it holds 25 %" in said


def test_a_fragment_fits_behind_its_config(tmp_path, reckoned, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "card.yaml"
    words = ["plan", "--configfile", str(BASE / "config" / "mots.yaml"), "--gpu-memory", "3.65", "-o", str(out)]
    assert main(words) == 0
    content = yaml.safe_load((BASE / "config" / "mots.yaml").read_text(encoding="utf-8"))
    for section, keys in yaml.safe_load(out.read_text(encoding="utf-8")).items():
        content[section] = {**content.get(section, {}), **keys}
    config = load_config(content, BASE)
    assert config.patches.size_voxels == (128, 128, 96)
    assert config.execution.gradient_accumulation_steps in (6, 12)
    said = capsys.readouterr().out
    assert "the config's 160×160×96 does not fit" in said
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "Voodoo"], "Voodoo is not known; choose from RTX 2080 Ti"),
        (["--gpu-memory", "24", "--gpus", "5"], "5 GPUs do not share a batch of 12 evenly"),
        (["--gpu-memory", "1.5"], "no patch of these networks fits 1.5 GiB"),
    ],
)
def test_what_cannot_be_planned_is_one_line(words, said, reckoned, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--configfile", str(BASE / "config" / "mots.yaml"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_presets_of_the_documentation_fit_by_the_estimate():
    """Each row of the table in docs/performance.md, from fake tensors at the paper's size: its memory and its bound."""
    text = (BASE / "docs" / "performance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| (\d+) \| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
    assert [int(memory) for memory, *_ in rows] == list(PRESET_MEMORY_GIB)
    for memory, name, parts, kind, gib, seconds in rows:
        one, two = (
            estimate("ours", Fit(1, kind, (), ()).applied(replace(PAPER, batch_size=B)), "cuda") for B in (1, 2)
        )
        more = 12 // int(parts) - 1
        peak = one.peak + more * (two.peak - one.peak) + (one.gradients if int(parts) > 1 else 0)
        assert peak <= Card(int(memory), Rates(1, 1)).usable_bytes
        assert peak / GIB == pytest.approx(float(gib), abs=0.1)
        first, second = (found.seconds(CARDS[name].rates) for found in (one, two))
        assert int(parts) * (first + more * (second - first)) == pytest.approx(float(seconds), abs=0.01)
