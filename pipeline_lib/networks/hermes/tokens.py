"""Hermes' tokens: what is known of each ROI and of CT, exchanged with the features of an image by cross-attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HEAD_WIDTH = 32
_OF_THE_MODALITY = 10


class CrossAttention(nn.Module):
    """Queries B M C attend to others B N C, in C // 32 heads of width 32; both are normalised first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // _HEAD_WIDTH
        inner = self.heads * _HEAD_WIDTH
        self.query_norm, self.other_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query = nn.Linear(channels, inner, bias=False)
        self.key = nn.Linear(channels, inner, bias=False)
        self.value = nn.Linear(channels, inner, bias=False)
        self.out = nn.Linear(inner, channels)

    def forward(self, queries: Tensor, others: Tensor, attended: Tensor | None = None) -> Tensor:
        """B M C; `attended` bool B N says which others count, without it all."""
        others = self.other_norm(others)
        query, key, value = (
            part.unflatten(2, (self.heads, _HEAD_WIDTH)).transpose(1, 2)
            for part in (self.query(self.query_norm(queries)), self.key(others), self.value(others))
        )
        mask = None if attended is None else attended[:, None, None]
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(found.transpose(1, 2).flatten(2))


class Exchange(nn.Module):
    """Tokens learn from the image, then the image from the tokens, each followed by a perceptron; all residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_tokens, self.of_features = CrossAttention(channels), CrossAttention(channels)
        self.tokens_perceptron, self.features_perceptron = _perceptron(channels), _perceptron(channels)

    def forward(self, features: Tensor, tokens: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """B N C, B M C and bool B M → B N C, B M C."""
        tokens = tokens + self.of_tokens(tokens, features)
        tokens = tokens + self.tokens_perceptron(tokens)
        features = features + self.of_features(features, tokens, attended)
        return features + self.features_perceptron(features), tokens


class TokenPlace(nn.Module):
    """A place of the network with tokens of its own: one for each of K ROIs, and ten for CT."""

    def __init__(self, channels: int, rois: int, blocks: int) -> None:
        super().__init__()
        self.of_rois = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rois, channels)))
        self.of_modality = nn.Parameter(nn.init.xavier_uniform_(torch.empty(_OF_THE_MODALITY, channels)))
        self.exchanges = nn.ModuleList(Exchange(channels) for _ in range(blocks))

    def forward(self, maps: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Maps B C D H W, and the ROIs' tokens B K C; of those only the `asked` ones, bool B K, reach the maps."""
        B = len(maps)
        tokens = torch.cat([self.of_rois, self.of_modality])[None].expand(B, -1, -1)
        attended = F.pad(asked, (0, _OF_THE_MODALITY), value=True)
        features = maps.flatten(2).transpose(1, 2)
        for exchange in self.exchanges:
            features, tokens = exchange(features, tokens, attended)
        return features.transpose(1, 2).reshape(maps.shape), tokens[:, : len(self.of_rois)]


def _perceptron(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
    )
