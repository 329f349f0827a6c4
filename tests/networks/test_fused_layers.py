"""The Triton kernels against loops and autograd: on a GPU if there is one, else computed by Triton's interpreter.

The interpreter proves the arithmetic, not what a compiler makes of it; NumPy has no bfloat16, so it takes float16.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.networks.generated_layers import fused_layers_on, plain_layers
from tests.support.naive_layers import naive_layers, random_case

pytest.importorskip("triton", reason="this machine's torch has no Triton")
from pipeline_lib.networks.fused_layers import fused_layers

BASE = Path(__file__).parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HALF = torch.bfloat16 if torch.cuda.is_available() else torch.float16


def case(seed, B, N, maps, voxels, dtype=torch.float32):
    features, parameters = random_case(seed, B, N, maps, (1, 1, voxels))
    features = features.flatten(2).to(DEVICE, dtype).requires_grad_()
    parameters = parameters.to(DEVICE, torch.float32).requires_grad_()
    grad_output = torch.randn(B, N, maps, voxels, generator=torch.Generator().manual_seed(seed % 2**32)).to(
        DEVICE, dtype
    )
    return features, parameters, grad_output


def gradients(layers, features, parameters, grad_output, maps):
    logits = layers(features, parameters, maps)
    return logits.detach(), *torch.autograd.grad(logits, (features, parameters), grad_output.to(logits.dtype))


def exact(features, parameters, grad_output, maps):
    """Logits and gradients by batched products in float64, which test_generated_layers.py holds against loops."""
    inputs = [values.detach().double().requires_grad_() for values in (features, parameters)]
    return gradients(plain_layers, *inputs, grad_output.double(), maps)


def assert_close(found, expected, share):
    for mine, true in zip(found, expected, strict=True):
        assert mine.shape == true.shape
        assert (mine.double() - true).abs().max() <= share * true.abs().max()


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32),
    B=st.integers(1, 3),
    N=st.integers(1, 5),
    maps=st.sampled_from([1, 2, 3, 8]),
    voxels=st.sampled_from([1, 31, 128, 131, 300]),
)
def test_logits_and_gradients_of_any_size(seed, B, N, maps, voxels):
    inputs = case(seed, B, N, maps, voxels)
    assert_close(gradients(fused_layers, *inputs, maps), exact(*inputs, maps), 2e-6)


def test_logits_equal_a_loop_over_voxels():
    features, parameters, _ = case(1, 2, 3, 2, 5)
    expected = naive_layers(
        features.detach().double().cpu().numpy()[:, :, None, None],
        parameters.detach().double().cpu().numpy(),
        maps=2,
    )[:, :, :, 0, 0]
    logits = fused_layers(features, parameters, 2).detach().cpu().numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_half_precision_rounds_no_more_than_it_must():
    """Signs only: no hidden value that rounding could lift above zero, which would change a gradient as a whole."""
    features, parameters, grad_output = (values.detach().sign() for values in case(2, 2, 3, 1, 200, HALF))
    inputs = features.requires_grad_(), parameters.requires_grad_(), grad_output
    found = gradients(fused_layers, *inputs, 1)
    assert found[0].dtype == found[1].dtype == HALF
    assert found[2].dtype == torch.float32
    assert_close(found, exact(*inputs, 1), torch.finfo(HALF).eps)


def test_autocast_sets_the_precision():
    features, parameters, _ = case(3, 1, 2, 1, 40)
    with torch.autocast(DEVICE.type, HALF):
        logits = fused_layers(features, parameters, 1)
    assert logits.dtype == HALF
    expected = fused_layers(features.to(HALF), parameters, 1)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("sums", [1, 5, 7, 10**6])
def test_however_many_programs_sum_the_gradients(sums):
    """Spans that do not divide the tiles evenly, and the last one with tiles beyond the last voxel."""
    inputs = case(4, 2, 3, 1, 11 * 32 + 5)
    found = gradients(functools.partial(fused_layers, most_sums=sums), *inputs, 1)
    assert_close(found, exact(*inputs, 1), 2e-6)


@pytest.mark.parametrize("place", ["feature", "weight"])
def test_what_is_not_a_number_stays_so(place):
    """Or a broken training would continue. Two heads share their tiles, so that one may catch it from the other."""
    features, parameters, grad_output = case(8, 1, 2, 1, 20)
    with torch.no_grad():
        (features[0, 3] if place == "feature" else parameters[0, 0])[7] = torch.nan
    found = gradients(fused_layers, features, parameters, grad_output, 1)
    expected = gradients(plain_layers, features, parameters, grad_output, 1)
    assert expected[0].isnan().any()
    for mine, plain in zip(found, expected, strict=True):
        assert mine.isnan()[plain.isnan()].all()


def test_a_slice_of_a_larger_map_is_read_right():
    features, parameters, grad_output = case(5, 2, 2, 1, 60)
    wider = torch.cat([features, features], dim=1).detach()[:, ::2].requires_grad_()
    inputs = wider, parameters, grad_output.transpose(0, 1).contiguous().transpose(0, 1)
    assert_close(gradients(fused_layers, *inputs, 1), exact(*inputs, 1), 2e-6)


def test_no_hidden_layer_is_kept_for_backward():
    features, parameters, _ = case(6, 1, 6, 1, 500)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        fused_layers(features, parameters, 1)
    one_map = 4 * 500
    assert sum(kept.values()) < features.nbytes + 10 * parameters.nbytes
    assert 10 * parameters.nbytes < 6 * 8 * one_map


def test_the_trial_finds_that_they_agree():
    fused_layers_on.cache_clear()
    for precision in (torch.float32, HALF):
        assert fused_layers_on(DEVICE, precision, 1) is fused_layers


@pytest.mark.skipif(importlib.util.find_spec("triton.backends.nvidia") is None, reason="Triton has no compiler here")
def test_the_kernels_compile_for_gpus_that_are_not_here():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    # A checkout need not be installed.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(BASE), environment.get("PYTHONPATH"))))
    command = [sys.executable, "benchmarks/fused_layers.py", "--capability", "80", "90", "--precision", "bfloat16"]
    done = subprocess.run(command, env=environment, cwd=BASE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("_kernel") == 6
