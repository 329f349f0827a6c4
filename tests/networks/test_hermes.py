"""Hermes' network: tokens of the ROIs that are asked for exchange with the image at five places."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline_lib.networks.hermes.network import HermesNetwork
from pipeline_lib.networks.hermes.settings import HermesUnet
from pipeline_lib.networks.hermes.tokens import CrossAttention


def network(width=8, rois=3) -> HermesNetwork:
    torch.manual_seed(0)
    return HermesNetwork(HermesUnet(kind="hermes", width=width), torch.zeros(rois, 5))


def normed(values):
    values = values - values.mean(-1, keepdims=True)
    return values / np.sqrt((values**2).mean(-1, keepdims=True) + 1e-5)


def test_cross_attention_equals_a_loop_over_heads_and_queries():
    torch.manual_seed(0)
    layer = CrossAttention(64).double()
    queries, others = torch.randn(2, 3, 64, dtype=torch.float64), torch.randn(2, 5, 64, dtype=torch.float64)
    attended = torch.tensor([[True, False, True, True, False], [False, True, False, False, False]])
    found = layer(queries, others, attended).detach().numpy()
    weight = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    for b in range(2):
        asks, gives = normed(queries[b].numpy()), normed(others[b].numpy())
        for m in range(3):
            heads = []
            for head in range(2):
                rows = slice(32 * head, 32 * head + 32)
                query = weight["query.weight"][rows] @ asks[m]
                scores, values = [], []
                for n in range(5):
                    if attended[b, n]:
                        scores.append(math.exp(query @ (weight["key.weight"][rows] @ gives[n]) / math.sqrt(32)))
                        values.append(weight["value.weight"][rows] @ gives[n])
                heads.append(sum(s * v for s, v in zip(scores, values, strict=True)) / sum(scores))
            expected = weight["out.weight"] @ np.concatenate(heads) + weight["out.bias"]
            np.testing.assert_allclose(found[b, m], expected, atol=1e-9)


def test_rois_that_are_not_asked_for_change_nothing_and_others_do():
    built, image = network(), torch.randn(1, 1, 32, 16, 32)
    asked = torch.tensor([[True, False, True]])
    with torch.no_grad():
        everything, some = built(image), built(image, asked)
        assert everything.shape == some.shape == (1, 3, 32, 16, 32)
        assert not torch.allclose(everything[:, 0], some[:, 0], atol=1e-4)
        assert torch.equal(everything, built(image, torch.ones(1, 3, dtype=torch.bool)))
        for place in built.places:
            place.of_rois[1] = torch.randn(place.of_rois.shape[1])
        torch.testing.assert_close(built(image, asked)[:, [0, 2]], some[:, [0, 2]])
        assert not torch.allclose(built(image)[:, 0], everything[:, 0], atol=1e-4)


def block(a, b):
    return 27 * a * b + 27 * b * b + 4 * b + (a * b if a != b else 0)


@pytest.mark.parametrize(("width", "rois"), [(32, 11), (8, 3)])
def test_the_number_of_parameters(width, rois):
    w = width
    stages = [(w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w), (8 * w, 10 * w)]
    stages += [(18 * w, 8 * w), (12 * w, 4 * w), (6 * w, 2 * w), (3 * w, w)]
    expected = 27 * w + block(w, w) + sum(block(a, b) + block(b, b) for a, b in stages)
    for channels, exchanges in ((4 * w, 2), (8 * w, 2), (10 * w, 4), (8 * w, 2), (4 * w, 2)):
        inner = 32 * (channels // 32)
        attention = 4 * channels + 3 * channels * inner + inner * channels + channels
        perceptron = 2 * channels + 8 * channels**2 + 5 * channels
        expected += (rois + 10) * channels + exchanges * 2 * (attention + perceptron)
    joined = 34 * w
    expected += 2 * joined + joined * joined + joined + joined * w + w + 2 * (w * w + w)
    assert sum(parameter.numel() for parameter in network(width, rois).parameters()) == expected
