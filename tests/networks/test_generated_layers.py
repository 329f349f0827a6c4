"""The generated layers against a loop over samples, heads and voxels, each with its own little network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.networks import generated_layers as module
from pipeline_lib.networks.generated_layers import fused_layers_on, generated_layers
from tests.support.naive_layers import naive_layers, random_case


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    B=st.integers(1, 3),
    N=st.integers(1, 4),
    maps=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
)
def test_batched_layers_equal_the_loop(seed, B, N, maps, shape):
    features, parameters = random_case(seed, B, N, maps, shape)
    expected = naive_layers(features.numpy(), parameters.numpy(), maps)
    np.testing.assert_allclose(generated_layers(features, parameters, maps), expected, rtol=1e-6, atol=1e-9)


def test_float32_agrees_within_one_millionth_of_the_scale():
    features, parameters = random_case(1, 2, 3, 1, (3, 4, 5), torch.float32)
    expected = naive_layers(features.double().numpy(), parameters.double().numpy(), 1)
    mine = generated_layers(features, parameters, 1).numpy()
    np.testing.assert_allclose(mine / np.abs(expected).max(), expected / np.abs(expected).max(), atol=1e-6)


def test_gradients_equal_finite_differences():
    features, parameters = random_case(2, 2, 2, 2, (1, 2, 2))
    features, parameters = features.requires_grad_(), parameters.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, p: generated_layers(f, p, 2), (features, parameters))


def test_chunks_change_neither_result_nor_gradient(monkeypatch):
    results = []
    for hidden_values in (2**30, 2 * 3 * 8 * 7):
        monkeypatch.setitem(module._HIDDEN_VALUES_PER_CHUNK, "cpu", hidden_values)
        features, parameters = random_case(3, 2, 3, 1, (4, 5, 5))
        features, parameters = features.requires_grad_(), parameters.requires_grad_()
        logits = generated_layers(features, parameters, 1)
        logits.square().sum().backward()
        with torch.no_grad():
            without_gradient = generated_layers(features, parameters, 1)
        results.append((logits.detach(), without_gradient, features.grad, parameters.grad))
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole)


def test_no_hidden_layer_is_kept_for_backward():
    features, parameters = random_case(4, 1, 6, 1, (8, 16, 16), torch.float32)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        generated_layers(features.requires_grad_(), parameters.requires_grad_(), 1)
    assert sum(kept.values()) <= features.nbytes + parameters.nbytes


def test_without_a_gpu_the_fused_layers_give_way_with_a_line(capsys):
    fused_layers_on.cache_clear()
    nowhere = torch.device("cuda", 99)
    assert fused_layers_on(nowhere, torch.bfloat16, 1) is None
    assert fused_layers_on(nowhere, torch.bfloat16, 1) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cuda:99: the dynamic head's Triton kernels do not work here (")
    assert line.endswith("), so plain products are used")


@pytest.mark.parametrize(
    ("device_type", "precision", "maps", "compiling", "expected"),
    [
        ("cuda", torch.bfloat16, 1, False, True),
        ("cuda", torch.float32, 8, False, True),
        ("cuda", torch.float64, 1, False, False),
        ("cuda", torch.bfloat16, 9, False, False),
        ("cuda", torch.bfloat16, 1, True, False),
        ("cpu", torch.float32, 1, False, False),
    ],
)
def test_where_layers_may_be_fused(device_type, precision, maps, compiling, expected):
    assert module.may_be_fused(device_type, precision, maps, compiling) == expected


@pytest.mark.parametrize("network_name", ["swin_unetr", "dodnet"])
@pytest.mark.parametrize("fused_head", [True, False])
def test_both_networks_heads_hear_of_the_key(network_name, build, patch, fused_head, monkeypatch):
    """As on a GPU: the layers that are found there are used, unless the key says no."""
    used = []

    def layers(features, parameters, maps):
        used.append(maps)
        return module.plain_layers(features, parameters, maps)

    monkeypatch.setattr(module, "may_be_fused", lambda *_: True)
    monkeypatch.setattr(module, "fused_layers_on", lambda *_: layers)
    with torch.no_grad():
        build(network_name, fused_head=fused_head)(patch)
    assert bool(used) == fused_head


def test_fused_layers_that_compute_something_else_give_way_with_a_line(capsys, monkeypatch):
    pytest.importorskip("triton")
    from pipeline_lib.networks import fused_layers

    monkeypatch.setattr(
        fused_layers, "fused_layers", lambda features, *rest, **_: module.plain_layers(1.1 * features, *rest)
    )
    fused_layers_on.cache_clear()
    try:
        assert fused_layers_on(torch.device("cpu"), torch.float32, 1) is None
    finally:
        fused_layers_on.cache_clear()
    assert "off by 0." in capsys.readouterr().err
