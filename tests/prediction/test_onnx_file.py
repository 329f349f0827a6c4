"""A model as an ONNX file: its probabilities in ONNX Runtime are PyTorch's, and the JSON file says how to use it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline_lib.commands.main import main
from pipeline_lib.errors import UserError
from pipeline_lib.networks import generated_layers
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.dynamic_head import TextConditionedHead
from pipeline_lib.networks.instance_norm import ExportedInstanceNorm, InstanceNorm
from pipeline_lib.networks.model_file import save_model
from pipeline_lib.networks.probabilities import probabilities
from pipeline_lib.prediction import onnx_graph
from tests.support.network_fixtures import NETWORKS, ROIS, described

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
needs_onnx = pytest.mark.skipif(
    any(find_spec(package) is None for package in PACKAGES), reason=f"needs {', '.join(PACKAGES)} (extra `onnx`)"
)
KIND = "conemos"


def saved(path: Path, kind: str = KIND) -> Path:
    torch.manual_seed(3)
    network = build_segmentation_network(NETWORKS[kind], torch.eye(3), ROIS).eval()
    save_model(path, network, {**described(kind), "patches": {"size_voxels": [32, 16, 16]}})
    return path


@needs_onnx
def test_another_runtime_gives_the_probabilities_of_pytorch(tmp_path, capsys):
    model, onnx = saved(tmp_path / "model.safetensors"), tmp_path / "liver.onnx"
    words = ["--onnx", onnx, "--overlap", "0.25", "--largest-part", "liver"]
    assert main(["export", *map(str, (model, *words))]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["liver.json", "liver.onnx", "model.safetensors"]
    import onnxruntime

    image = np.random.default_rng(1).uniform(-1, 1, (1, 1, 16, 16, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image})
    torch.manual_seed(3)
    network = build_segmentation_network(NETWORKS[KIND], torch.eye(3), ROIS).eval()
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(image))).numpy()
    assert np.ptp(expected) > 0.1
    assert np.abs(found - expected).max() < 1e-4
    said = json.loads((tmp_path / "liver.json").read_text())
    assert said["input"]["shape"] == [1, 1, 16, 16, 32]
    assert said["output"]["shape"] == [1, 3, 16, 16, 32]
    assert said["output"]["rois"] == list(ROIS)
    assert (said["input"]["spacing_mm_xyz"], said["input"]["window_hu"]) == ([0.8, 0.8, 1.5], [-325, 325])
    assert (said["windows"]["overlap"], said["post_processing"]) == (0.25, {"liver": "largest_part"})
    assert said["checked"]["largest_difference_from_pytorch"] < 1e-4
    assert "off PyTorch's by" in capsys.readouterr().out


class HeadAlone(torch.nn.Module):
    """The text-conditioned head on a convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = torch.randn(3, 5)
        self.stem = torch.nn.Conv3d(1, 16, 3, padding=1)
        self.head = TextConditionedHead(16, 16, self.embeddings)

    def forward(self, image):
        maps = self.stem(image)
        return self.head(maps, maps, self.embeddings)


@needs_onnx
def test_the_text_head_is_a_graph_with_its_rois_fixed_and_one_that_is_off_is_not_kept(tmp_path, monkeypatch):
    def off(path, image):
        return run(path, image) + 0.01

    run, shape = onnx_graph.run_graph, (1, 1, 4, 4, 4)
    monkeypatch.setattr(generated_layers, "_HIDDEN_VALUES_PER_EXPORTED_CHUNK", 20 * 3 * 8)
    out = tmp_path / "a.onnx"
    assert onnx_graph.write_graph(HeadAlone().eval(), probabilities, shape, out) < 1e-5
    assert run(out, np.zeros(shape, np.float32)).shape == (1, 3, 4, 4, 4)
    out.unlink()
    monkeypatch.setattr(onnx_graph, "run_graph", off)
    with pytest.raises(UserError, match=r"off by 0\.01"):
        onnx_graph.write_graph(HeadAlone().eval(), probabilities, shape, out)
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_graph, "find_spec", lambda package: None)
    assert main(["export", str(tmp_path / "model.safetensors"), "--onnx", str(tmp_path / "a.onnx")]) == 2
    said = capsys.readouterr().err
    assert "needs packages that are not installed: onnx, onnxscript, onnxruntime; install them with" in said


@pytest.mark.parametrize("affine", [False, True])
def test_the_exported_norm_is_the_same(affine):
    norm = InstanceNorm(torch.nn.InstanceNorm3d(3, affine=affine))
    if affine:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    values = torch.randn(2, 3, 4, 5, 6)
    assert torch.allclose(ExportedInstanceNorm(norm)(values), norm(values), atol=1e-6)
