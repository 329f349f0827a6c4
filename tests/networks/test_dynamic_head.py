"""The text-conditioned head against a loop over samples and ROIs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.dynamic_head import TextConditionedHead
from pipeline_lib.networks.head_parameters import parameter_count
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr
from tests.support.naive_layers import naive_layers


def test_parameter_counts_are_the_published_ones():
    assert parameter_count(1) == 153
    assert parameter_count(2) == 162
    assert TextConditionedHead(48, 768, torch.zeros(3, 512)).controller.out_features == 153


def make_head(embeddings=None, seed=0, **options):
    """A head for these embeddings; equal calls give equal parameters."""
    torch.manual_seed(seed)
    return TextConditionedHead(12, 32, inputs()[2] if embeddings is None else embeddings, **options)


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
    words = embeddings
    if not head.raw_embeddings:
        words = words - words.mean(0)
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


@pytest.mark.parametrize("raw", [False, True])
def test_the_whole_head_equals_the_loop(raw):
    arguments = [part.double() for part in inputs()]
    head = make_head(arguments[2], raw_embeddings=raw).double()
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
    decoded, bottleneck, embeddings = inputs(B=4, K=20)
    head = make_head(scale * embeddings)
    with torch.no_grad():
        deviation = head(decoded, bottleneck, scale * embeddings).std().item()
    assert 0.1 < deviation < 3


def test_the_published_start_is_pytorchs_default():
    """Uniform in ±1/√512, weights and biases alike, also for the generated biases, which otherwise start at 0."""
    head, plain = make_head(published_start=True), make_head()
    bound = 512**-0.5
    for values in (head.controller.weight, head.controller.bias):
        assert values.abs().max() <= bound
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
    assert plain.controller.weight.abs().max() > 2 * bound
    # The last of the 153 is a bias.
    assert plain.controller.bias[-1] == 0
    assert head.controller.bias[-1] != 0


@pytest.mark.parametrize("key", [{"embedding_scale": "raw"}, {"head_start": "published"}])
def test_keys_of_the_text_head_are_refused_where_there_is_none(key):
    with pytest.raises(ValueError, match="text-conditioned head, which gives way"):
        SwinUnetr(kind="swin_unetr", per_data_set="outputs", **key)
    torch.manual_seed(0)
    settings = SwinUnetr(kind="swin_unetr", feature_size=12, depths=(1, 1, 1, 1), window_size=2, **key)
    network = build_segmentation_network(settings, torch.randn(3, 5), ("liver", "kidney", "spleen"))
    assert network.head.raw_embeddings == ("embedding_scale" in key)
    assert (network.head.controller.bias[-1] != 0) == ("head_start" in key)


def test_another_roi_list_moves_no_roi_that_was_there():
    decoded, bottleneck, embeddings = inputs()
    head = make_head(embeddings)
    more = torch.cat([embeddings[:2], 3 * torch.ones(1, 5), embeddings[2:]])
    with torch.no_grad():
        before, after = head(decoded, bottleneck, embeddings), head(decoded, bottleneck, more)
    torch.testing.assert_close(after[:, [0, 1, 3, 4]], before)
    assert not torch.allclose(make_head(more)(decoded, bottleneck, more)[:, :2], before[:, :2])


def test_a_state_without_statistics_takes_those_of_the_embeddings():
    """Models and checkpoints of earlier versions have none."""
    decoded, bottleneck, embeddings = inputs()
    head = make_head(embeddings)
    old = {name: value for name, value in head.state_dict().items() if not name.startswith("embedding_")}
    torch.manual_seed(1)
    loaded = TextConditionedHead(12, 32, embeddings)
    loaded.load_state_dict(old)
    with torch.no_grad():
        assert torch.equal(loaded(decoded, bottleneck, embeddings), head(decoded, bottleneck, embeddings))
