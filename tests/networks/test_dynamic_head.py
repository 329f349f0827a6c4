"""The dynamic head against a loop over samples and ROIs, each with its own little network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.networks import dynamic_head
from pipeline_lib.networks.dynamic_head import TextConditionedHead, generated_layers, parameter_count


def naive_layers(features, parameters, maps):
    """One sample, one head and one voxel at a time, in float64: B 8 D H W, B N P → B N maps D H W."""
    B, N, _ = parameters.shape
    shape = features.shape[2:]
    logits = np.empty((B, N, maps, *shape))
    for b in range(B):
        for n in range(N):
            rest = list(parameters[b, n])

            def take(*size, rest=rest):
                count = int(np.prod(size))
                taken, rest[:] = rest[:count], rest[count:]
                return np.array(taken).reshape(size)

            layers = [(take(8, 8), take(8)), (take(8, 8), take(8)), (take(maps, 8), take(maps))]
            assert not rest
            for voxel in np.ndindex(shape):
                values = features[(b, slice(None), *voxel)]
                for weights, biases in layers[:-1]:
                    values = np.maximum(weights @ values + biases, 0)
                logits[(b, n, slice(None), *voxel)] = layers[-1][0] @ values + layers[-1][1]
    return logits


def random_case(seed, B, N, maps, shape, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    features = torch.tensor(rng.normal(size=(B, 8, *shape)), dtype=dtype)
    parameters = torch.tensor(rng.normal(size=(B, N, parameter_count(maps))), dtype=dtype)
    return features, parameters


def test_parameter_counts_are_the_published_ones():
    assert parameter_count(1) == 153
    assert parameter_count(2) == 162
    assert TextConditionedHead(48, 768, 512).controller.out_features == 153


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
        monkeypatch.setitem(dynamic_head._HIDDEN_VALUES_PER_CHUNK, "cpu", hidden_values)
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


def make_head(seed=0):
    torch.manual_seed(seed)
    return TextConditionedHead(channels=12, bottleneck_channels=32, embedding_size=5)


def inputs(B=2, K=4):
    generator = torch.Generator().manual_seed(9)
    decoded = torch.randn(B, 12, 2, 3, 4, generator=generator)
    bottleneck = torch.randn(B, 32, 1, 2, 1, generator=generator)
    return decoded, bottleneck, torch.randn(K, 5, generator=generator)


def group_norm(values, groups, layer):
    """values C D H W, normalised within each of `groups` runs of channels."""
    parts = values.reshape(groups, -1)
    parts = (parts - parts.mean(1, keepdims=True)) / np.sqrt(parts.var(1, keepdims=True) + layer.eps)
    weight, bias = (part.detach().numpy()[:, None, None, None] for part in (layer.weight, layer.bias))
    return parts.reshape(values.shape) * weight + bias


def naive_head(head, decoded, bottleneck, embeddings):
    """The Universal Model's head, a sample and a ROI at a time, in float64 NumPy."""
    norm, _, _, projection = head.image_feature
    words = embeddings - embeddings.mean(0)
    words = words / np.sqrt((words**2).mean())
    text_weight, text_bias = (
        part.detach().numpy() for part in (head.text_feature[0].weight, head.text_feature[0].bias)
    )
    control_weight, control_bias = head.controller.weight.detach().numpy(), head.controller.bias.detach().numpy()
    feature_norm, _, feature_layer = head.features
    logits = np.empty((len(decoded), len(words), *decoded.shape[2:]))
    for b in range(len(decoded)):
        image = np.maximum(group_norm(bottleneck[b], norm.num_groups, norm), 0).mean((1, 2, 3))
        image = projection.weight.detach().numpy()[:, :, 0, 0, 0] @ image + projection.bias.detach().numpy()
        features = np.maximum(group_norm(decoded[b], feature_norm.num_groups, feature_norm), 0)
        features = np.einsum("oc,czyx->ozyx", feature_layer.weight.detach().numpy()[:, :, 0, 0, 0], features)
        features = features + feature_layer.bias.detach().numpy()[:, None, None, None]
        for k, word in enumerate(words):
            text = np.maximum(text_weight @ word + text_bias, 0)
            parameters = control_weight @ np.concatenate([image, text]) + control_bias
            logits[b, k] = naive_layers(features[None], parameters[None, None], 1)[0, 0, 0]
    return logits


def test_the_whole_head_equals_the_loop():
    head, (decoded, bottleneck, embeddings) = make_head().double(), inputs()
    arguments = [part.double() for part in (decoded, bottleneck, embeddings)]
    with torch.no_grad():
        # Norms start at 1 and 0, which would hide that they are left out.
        for norm in (head.image_feature[0], head.features[0]):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
        mine = head(*arguments)
    expected = naive_head(head, *(part.numpy() for part in arguments))
    np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-9)


def test_the_order_of_the_rois_does_not_matter():
    head, (decoded, bottleneck, embeddings) = make_head(), inputs()
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        head(decoded, bottleneck, embeddings[order]), head(decoded, bottleneck, embeddings)[:, order]
    )


def test_a_sample_does_not_see_the_others():
    head, (decoded, bottleneck, embeddings) = make_head(), inputs()
    together = head(decoded, bottleneck, embeddings)
    alone = [head(decoded[b : b + 1], bottleneck[b : b + 1], embeddings) for b in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_text_and_image_both_matter():
    head, (decoded, bottleneck, embeddings) = make_head(), inputs()
    logits = head(decoded, bottleneck, embeddings)
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    assert not torch.allclose(head(decoded, bottleneck.flip(0), embeddings), logits)


def test_every_parameter_gets_a_gradient():
    head, arguments = make_head(), inputs()
    head(*arguments).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


@pytest.mark.parametrize("scale", [0.2, 1.0, 10.0], ids=["wordllama", "standard", "large"])
def test_logits_start_at_a_sane_scale_for_any_encoder(scale):
    head, (decoded, bottleneck, embeddings) = make_head(), inputs(B=4, K=20)
    with torch.no_grad():
        deviation = head(decoded, bottleneck, scale * embeddings).std().item()
    assert 0.1 < deviation < 3
