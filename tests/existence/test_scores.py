"""From structures to ROIs, calibrated or not, by a network that stays frozen."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.config.existence import Existence
from pipeline_lib.config.roi_aware import RoiAware
from pipeline_lib.errors import UserError
from pipeline_lib.existence.calibration import Calibration, fit, read_calibration
from pipeline_lib.existence.metrics import structure_metrics
from pipeline_lib.existence.scores import RoiScorer, load_scorer
from pipeline_lib.networks.build import build_roi_aware_network
from pipeline_lib.networks.model_file import save_model

AVAILABLE = ("spleen", "kidney_right", "kidney_left", "liver")
STRUCTURES = (("liver",), ("liver",), ("kidney_right", "kidney_left"), ("spleen",))


class Corner(nn.Module):
    """Logits of four structures that depend on which corner of the patch is bright."""

    def forward(self, images):
        return torch.stack(
            [images[:, 0, 0, 0, 0], images[:, 0, -1, 0, 0], images[:, 0, 0, -1, 0], images[:, 0, 0, 0, -1]], 1
        )


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def test_a_roi_takes_the_highest_of_its_structures_and_a_tumour_its_organs():
    images = torch.randn(5, 1, 4, 4, 4)
    logits = Corner()(images).numpy()
    scores = RoiScorer(Corner(), AVAILABLE, STRUCTURES)(images).numpy()
    expected = sigmoid(np.stack([logits[:, 3], logits[:, 3], logits[:, 1:3].max(1), logits[:, 0]], 1))
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_averaging_takes_all_eight_mirrored_patches():
    images = torch.randn(3, 1, 4, 5, 6)
    expected = np.zeros((3, 4))
    for senses in product((1, -1), repeat=3):
        mirrored = images.numpy()[:, :, :: senses[0], :: senses[1], :: senses[2]].copy()
        expected += sigmoid(Corner()(torch.from_numpy(mirrored)).numpy()) / 8
    scores = RoiScorer(Corner(), AVAILABLE, [[name] for name in AVAILABLE], average_flips=True)(images)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-6)


def test_calibration_is_applied_to_each_structure():
    images = torch.randn(3, 1, 4, 4, 4)
    slopes, offsets = np.array([1, 2, 0.5, 3]), np.array([0, 1, -1, 2])
    scores = RoiScorer(Corner(), AVAILABLE, [[name] for name in AVAILABLE], Calibration(slopes, offsets))(images)
    np.testing.assert_allclose(scores.numpy(), sigmoid(Corner()(images).numpy() * slopes + offsets), atol=1e-6)


def test_an_unknown_structure_is_refused():
    with pytest.raises(UserError, match=r"pancreas is no structure of the ROI-aware network; choose from spleen, "):
        RoiScorer(Corner(), AVAILABLE, [["pancreas"]])


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    sizes = RoiAware(structures=AVAILABLE, width=4)
    description = {
        "roi_aware": sizes.model_dump(mode="json"),
        "structures": AVAILABLE,
        "patches": {},
        "window_hu": [-325, 325],
    }
    save_model(tmp_path / "model.safetensors", build_roi_aware_network(sizes, 4), description)
    return tmp_path / "model.safetensors"


def test_the_frozen_network_learns_nothing_and_keeps_its_statistics(model):
    scorer = load_scorer(model, None, STRUCTURES, Existence(), torch.device("cpu"), average_flips=True)
    before = {name: value.clone() for name, value in scorer.state_dict().items()}
    images = torch.randn(2, 1, 32, 32, 32, requires_grad=True)
    first = scorer.train()(images)
    assert not first.requires_grad
    assert not any(parameter.requires_grad for parameter in scorer.parameters())
    assert not any(module.training for module in scorer.network.modules())
    scorer(images * 5)
    for name, value in scorer.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(scorer(images[:1]), scorer(images)[:1]) or torch.allclose(
        scorer(images[:1]), first[:1], atol=1e-6
    )


def test_calibration_needs_the_metrics(model):
    with pytest.raises(UserError, match=r"existence\.calibration: needs"):
        load_scorer(model, None, STRUCTURES, Existence(calibration="platt"), torch.device("cpu"), False)


def miscalibrated(count=4000, slope=2.5, offset=-1.0, seed=0):
    """Logits whose true ones are slope · logit + offset, and what was drawn from these."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, count)
    return logits, random.random(count) < sigmoid(slope * logits + offset)


def test_platt_finds_slope_and_offset():
    assert fit("platt", *miscalibrated()) == pytest.approx((2.5, -1.0), abs=0.2)


def test_temperature_finds_the_slope_alone():
    slope, offset = fit("temperature", *miscalibrated(offset=0.0))
    assert (slope, offset) == (pytest.approx(2.5, abs=0.2), 0.0)


@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_separable_patches_give_a_finite_fit(kind):
    logits = np.linspace(-3, 3, 40)
    slope, offset = fit(kind, logits, logits > 0)
    assert 1 < slope < 1e3
    assert abs(offset) < 10


@pytest.mark.parametrize("positives", [0, 4, 36, 40])
def test_too_few_of_a_kind_are_not_fitted(positives):
    assert fit("platt", np.linspace(-3, 3, 40), np.arange(40) < positives) is None


def metrics_of_miscalibrated():
    columns = [miscalibrated(seed=seed) for seed in range(2)]
    columns += [(np.zeros(4000), np.zeros(4000, bool)), (np.zeros(4000), np.ones(4000, bool))]
    return structure_metrics(AVAILABLE, *(np.stack(parts, 1) for parts in zip(*columns, strict=True)))


def test_structures_never_or_always_seen_are_reported_and_not_scored():
    metrics = metrics_of_miscalibrated()
    never, always = metrics["structures"]["kidney_left"], metrics["structures"]["liver"]
    assert (never["not_scored_because"], always["not_scored_because"]) == ("never present", "always present")
    for row in (never, always):
        assert row["auroc"] is row["average_precision"] is row["brier"] is None
        assert row["calibration"] == {"temperature": None, "platt": None}
    assert (never["positives"], never["negatives"], always["positives"]) == (0, 4000, 4000)
    scored = [metrics["structures"][name]["auroc"] for name in ("spleen", "kidney_right")]
    assert metrics["mean"]["auroc"] == pytest.approx(np.mean(scored))
    json.dumps(metrics, allow_nan=False)


def test_metrics_agree_with_naive_references():
    random = np.random.default_rng(0)
    logits, present = random.normal(size=60).astype(np.float32), random.random(60) < 0.3
    row = structure_metrics(["liver"], logits[:, None], present[:, None])["structures"]["liver"]
    pairs = [(p > n) + 0.5 * (p == n) for p in logits[present] for n in logits[~present]]
    assert row["auroc"] == pytest.approx(np.mean(pairs))
    assert row["brier"] == pytest.approx(np.mean((sigmoid(logits) - present) ** 2))
    ranked = present[np.argsort(-logits)]
    assert row["average_precision"] == pytest.approx(np.mean([ranked[: k + 1].mean() for k in np.flatnonzero(ranked)]))
    assert sum(entry["patches"] for entry in row["curve"]) == 60
    assert sum(entry["patches"] * entry["share_present"] for entry in row["curve"]) == pytest.approx(present.sum())


def test_calibration_is_read_back_with_a_common_one_for_structures_without(tmp_path):
    metrics = metrics_of_miscalibrated()
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics))
    calibration = read_calibration(path, "platt", AVAILABLE)
    assert calibration.slopes[:2].tolist() == pytest.approx([2.5, 2.5], abs=0.2)
    common = metrics["calibration"]["platt"]
    assert calibration.slopes[2:].tolist() == pytest.approx([common["slope"]] * 2)
    assert calibration.offsets[2:].tolist() == pytest.approx([common["offset"]] * 2)
    with pytest.raises(UserError, match="holds no platt calibration of these structures"):
        read_calibration(path, "platt", (*AVAILABLE, "stomach"))
