"""From structures to ROIs, by a network that stays frozen."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.config.roi_aware import RoiAware
from pipeline_lib.errors import UserError
from pipeline_lib.existence.metrics import structure_metrics
from pipeline_lib.existence.scores import RoiScorer, SegmentationScorer, load_scorer
from pipeline_lib.networks.build import build_roi_aware_network
from pipeline_lib.networks.model_file import save_model
from pipeline_lib.prediction.windows import probabilities_of

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


def test_a_segmentation_network_scores_by_its_own_methods_probabilities():
    """Rivals of one softmax: a voxel's two large logits share its probability, which two sigmoids would not."""
    description = {
        "method": {"kind": "target_adaptive", "network": "any", "encoder": "any"},
        "rois": ["liver", "spleen"],
        "structures": [["liver"], ["spleen"]],
    }
    z = 3 * torch.randn(3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    wanted = ("spleen", "kidney", "liver")
    scorer = SegmentationScorer(nn.Identity(), description["rois"], wanted, probabilities_of(description))
    scores = scorer(z).numpy()
    exponentials = np.exp(z.double().numpy())
    largest = (exponentials / (1 + exponentials.sum(1, keepdims=True))).max((2, 3, 4))
    np.testing.assert_allclose(scores[:, [2, 0]], largest, atol=1e-6)
    assert np.isnan(scores[:, 1]).all()


def test_an_unknown_structure_is_refused():
    with pytest.raises(UserError, match=r"the ROI-aware network does not score pancreas; choose from spleen, "):
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
    scorer = load_scorer(model, STRUCTURES, torch.device("cpu"))
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


def logits_of_four():
    """Logits of four structures and which of 4000 patches hold them: two now and then, one never, one always."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (4000, 4))
    present = random.random((4000, 4)) < sigmoid(logits)
    present[:, 2], present[:, 3] = False, True
    return logits, present


def all_known(logits, present):
    return logits, present, np.ones_like(present)


def test_structures_never_or_always_seen_are_reported_and_not_scored():
    metrics = structure_metrics(AVAILABLE, *all_known(*logits_of_four()))
    never, always = metrics["structures"]["kidney_left"], metrics["structures"]["liver"]
    assert (never["not_scored_because"], always["not_scored_because"]) == ("never present", "always present")
    for row in (never, always):
        assert row["auroc"] is row["average_precision"] is row["brier"] is None
    assert (never["positives"], never["negatives"], always["positives"]) == (0, 4000, 4000)
    scored = [metrics["structures"][name]["auroc"] for name in ("spleen", "kidney_right")]
    assert metrics["mean"]["auroc"] == pytest.approx(np.mean(scored))
    json.dumps(metrics, allow_nan=False)


def test_metrics_agree_with_naive_references():
    random = np.random.default_rng(0)
    logits, present = random.normal(size=60).astype(np.float32), random.random(60) < 0.3
    row = structure_metrics(["liver"], *all_known(logits[:, None], present[:, None]))["structures"]["liver"]
    pairs = [(p > n) + 0.5 * (p == n) for p in logits[present] for n in logits[~present]]
    assert row["auroc"] == pytest.approx(np.mean(pairs))
    assert row["brier"] == pytest.approx(np.mean((sigmoid(logits) - present) ** 2))
    ranked = present[np.argsort(-logits)]
    assert row["average_precision"] == pytest.approx(np.mean([ranked[: k + 1].mean() for k in np.flatnonzero(ranked)]))
    assert sum(entry["patches"] for entry in row["curve"]) == 60
    assert sum(entry["patches"] * entry["share_present"] for entry in row["curve"]) == pytest.approx(present.sum())


def test_metrics_of_a_structure_are_over_the_patches_in_which_it_is_known():
    logits, present = logits_of_four()
    known = np.random.default_rng(1).random(present.shape) < 0.5
    known[:, 3] = False
    rows = structure_metrics(AVAILABLE, logits, present, known)["structures"]
    for column, name in enumerate(AVAILABLE[:2]):
        own = known[:, column]
        pair = logits[own, column : column + 1], present[own, column : column + 1]
        assert rows[name] == structure_metrics([name], *all_known(*pair))["structures"][name]
    assert rows[AVAILABLE[3]]["not_scored_because"] == "never labelled"
