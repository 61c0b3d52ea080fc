"""Mask2Former as published, written from its paper and the names of its authors' code.

Modules have the names of https://github.com/facebookresearch/Mask2Former, and everything is written
with torch's own layers: nothing is shared with the package or transformers.
"""

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS, _POINTS = 3, 4


class PublishedMask2Former(nn.Module):
    """The model without its backbone, for features of strides 4, 8, 16 and 32."""

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int = 5,
        num_queries: int = 6,
        conv_dim: int = 32,
        mask_dim: int = 16,
        hidden_dim: int = 32,
        num_heads: int = 4,
        encoder_layers: int = 2,
        encoder_feedforward_dim: int = 24,
        decoder_layers: int = 3,
        feedforward_dim: int = 40,
    ):
        super().__init__()
        self.sem_seg_head = _Head()
        self.sem_seg_head.pixel_decoder = _PixelDecoder(
            channels, conv_dim, mask_dim, num_heads, encoder_layers, encoder_feedforward_dim
        )
        self.sem_seg_head.predictor = _Predictor(
            conv_dim,
            hidden_dim,
            mask_dim,
            num_classes,
            num_queries,
            num_heads,
            decoder_layers - 1,  # one prediction is made before the first layer
            feedforward_dim,
        )
        self.criterion = nn.Module()
        self.criterion.register_buffer("empty_weight", torch.tensor([1.0] * num_classes + [0.1]))

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the last prediction: class logits (N, Q, K + 1) and mask logits (N, Q, h, w)."""
        head = self.sem_seg_head
        return head.predictor(*head.pixel_decoder(list(features.values())))


class _Head(nn.Module):
    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest) -> None:
        """Rename as the published code does if a state dict doesn't say its version."""
        if (local_metadata.get("version") or 0) >= 2:
            return
        for name in list(state_dict):
            if name.startswith(prefix) and not name.startswith(f"{prefix}predictor"):
                new = f"{prefix}pixel_decoder.{name.removeprefix(prefix)}"
                state_dict[new] = state_dict.pop(name)
        logging.getLogger(__name__).warning("weights of an older version")


class _PixelDecoder(nn.Module):
    def __init__(self, channels, conv_dim, mask_dim, num_heads, num_layers, feedforward_dim):
        super().__init__()
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, conv_dim, 1), nn.GroupNorm(32, conv_dim))
            for width in reversed(channels[-_LEVELS:])
        )
        self.transformer = nn.Module()
        self.transformer.level_embed = nn.Parameter(torch.randn(_LEVELS, conv_dim))
        self.transformer.encoder = nn.Module()
        self.transformer.encoder.layers = nn.ModuleList(
            _EncoderLayer(conv_dim, num_heads, feedforward_dim) for _ in range(num_layers)
        )
        self.mask_features = Conv2d(conv_dim, mask_dim, 1)
        self.num_finer = len(channels) - _LEVELS
        for number in range(1, 1 + self.num_finer):
            adapter = _convolution(channels[number - 1], conv_dim, 1, None)
            self.add_module(f"adapter_{number}", adapter)
            self.add_module(f"layer_{number}", _convolution(conv_dim, conv_dim, 3, F.relu))

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        coarse = features[: -_LEVELS - 1 : -1]  # the coarsest first
        sizes = [tuple(x.shape[-2:]) for x in coarse]
        projected = [project(x) for project, x in zip(self.input_proj, coarse, strict=True)]
        x = torch.cat([p.flatten(2).transpose(1, 2) for p in projected], 1)
        places = [
            _positions(*size, x.shape[-1], x.dtype) + embedding
            for size, embedding in zip(sizes, self.transformer.level_embed, strict=True)
        ]
        centers = torch.cat([_centers(*size, x.dtype) for size in sizes])
        for layer in self.transformer.encoder.layers:
            x = layer(x, torch.cat(places), centers, sizes)
        parts = x.split([height * width for height, width in sizes], 1)
        maps = [p.transpose(1, 2).unflatten(2, size) for p, size in zip(parts, sizes, strict=True)]
        finest = maps[-1]
        for number in range(self.num_finer, 0, -1):
            adapted = self.get_submodule(f"adapter_{number}")(features[number - 1])
            finest = adapted + F.interpolate(finest, adapted.shape[-2:], mode="bilinear")
            finest = self.get_submodule(f"layer_{number}")(finest)
        return maps, self.mask_features(finest)


def _convolution(in_dim, out_dim, size, activation) -> Conv2d:
    norm = nn.GroupNorm(32, out_dim)
    padding = size // 2
    return Conv2d(
        in_dim, out_dim, size, padding=padding, bias=False, norm=norm, activation=activation
    )


class _EncoderLayer(nn.Module):
    def __init__(self, dim, num_heads, feedforward_dim):
        super().__init__()
        self.self_attn = _DeformableAttention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x, places, centers, sizes) -> Tensor:
        x = self.norm1(x + self.self_attn(x + places, x, centers, sizes))
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class _DeformableAttention(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.sampling_offsets = nn.Linear(dim, num_heads * _LEVELS * _POINTS * 2)
        self.attention_weights = nn.Linear(dim, num_heads * _LEVELS * _POINTS)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)

    def forward(self, query, source, centers, sizes) -> Tensor:
        heads = self.num_heads
        offsets = self.sampling_offsets(query).unflatten(2, (heads, _LEVELS, _POINTS, 2))
        shares = self.attention_weights(query).unflatten(2, (heads, -1)).softmax(3)
        shares = shares.unflatten(3, (_LEVELS, _POINTS))
        levels = self.value_proj(source).split([height * width for height, width in sizes], 1)
        total = torch.zeros(())
        for level, (height, width) in enumerate(sizes):
            values = levels[level].unflatten(2, (heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)
            moved = offsets[:, :, :, level] / torch.tensor([width, height])
            places = (centers[:, None, None] + moved).transpose(1, 2).flatten(0, 1)
            sampled = F.grid_sample(
                values.unflatten(2, (height, width)), 2 * places - 1, align_corners=False
            )
            share = shares[:, :, :, level].transpose(1, 2).flatten(0, 1)
            total = total + (sampled * share[:, None]).sum(-1)  # (N * heads, dim / heads, length)
        return self.output_proj(total.view(len(query), -1, query.shape[1]).transpose(1, 2))


class _Predictor(nn.Module):
    _version = 2

    def __init__(
        self, in_dim, dim, mask_dim, num_classes, num_queries, num_heads, num_layers, hidden
    ):
        super().__init__()
        self.num_heads = num_heads
        layers = range(num_layers)
        self.transformer_self_attention_layers = nn.ModuleList(
            _Attention("self_attn", dim, num_heads) for _ in layers
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            _Attention("multihead_attn", dim, num_heads) for _ in layers
        )
        self.transformer_ffn_layers = nn.ModuleList(_FeedForward(dim, hidden) for _ in layers)
        self.decoder_norm = nn.LayerNorm(dim)
        self.query_feat = nn.Embedding(num_queries, dim)
        self.query_embed = nn.Embedding(num_queries, dim)
        self.level_embed = nn.Embedding(_LEVELS, dim)
        self.input_proj = nn.ModuleList(
            Conv2d(in_dim, dim, 1) if in_dim != dim else nn.Sequential() for _ in range(_LEVELS)
        )
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = nn.Module()
        self.mask_embed.layers = nn.ModuleList(
            [nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, mask_dim)]
        )

    def forward(self, maps: list[Tensor], mask_features: Tensor) -> tuple[Tensor, Tensor]:
        sources, places = [], []
        for level, (project, x) in enumerate(zip(self.input_proj, maps, strict=True)):
            source = project(x).flatten(2).permute(2, 0, 1)
            sources.append(source + self.level_embed.weight[level])
            places.append(_positions(*x.shape[-2:], source.shape[-1], x.dtype)[:, None])
        batch = len(mask_features)
        query = self.query_feat.weight[:, None].repeat(1, batch, 1)
        query_place = self.query_embed.weight[:, None]
        for number in range(len(self.transformer_ffn_layers)):
            level = number % _LEVELS
            _, masks = self._predict(query, mask_features)
            hidden = F.interpolate(masks, maps[level].shape[-2:], mode="bilinear").sigmoid() < 0.5
            hidden = hidden.flatten(2)
            hidden = hidden & ~hidden.all(-1, keepdim=True)
            query = self.transformer_cross_attention_layers[number](
                query,
                query + query_place,
                sources[level] + places[level],
                sources[level],
                hidden.repeat_interleave(self.num_heads, 0),
            )
            query = self.transformer_self_attention_layers[number](
                query, query + query_place, query + query_place, query
            )
            query = self.transformer_ffn_layers[number](query)
        return self._predict(query, mask_features)

    def _predict(self, query: Tensor, mask_features: Tensor) -> tuple[Tensor, Tensor]:
        x = self.decoder_norm(query).transpose(0, 1)
        first, second, last = self.mask_embed.layers
        masks = last(second(first(x).relu()).relu())
        return self.class_embed(x), torch.einsum("nqc,nchw->nqhw", masks, mask_features)


class _Attention(nn.Module):
    def __init__(self, name, dim, num_heads):
        super().__init__()
        self.name = name
        self.add_module(name, nn.MultiheadAttention(dim, num_heads))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x, query, key, value, hidden=None) -> Tensor:
        attention = self.get_submodule(self.name)
        return self.norm(x + attention(query, key, value, attn_mask=hidden)[0])


class _FeedForward(nn.Module):
    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x) -> Tensor:
        return self.norm(x + self.linear2(self.linear1(x).relu()))


def _positions(height: int, width: int, dim: int, dtype: torch.dtype) -> Tensor:
    """Compute sines and cosines (height * width, dim) of the rows, then of the columns."""
    number = torch.arange(dim // 4, dtype=dtype)
    frequency = 10000 ** (-2 * number / (dim // 2))

    def along(size: int) -> Tensor:
        angle = 2 * math.pi * torch.arange(1, size + 1, dtype=dtype) / (size + 1e-6)
        phases = angle[:, None] * frequency
        return torch.stack([phases.sin(), phases.cos()], -1).flatten(1)

    rows = along(height)[:, None].expand(-1, width, -1)
    columns = along(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


def _centers(height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Compute the centers (height * width, 2) of pixels as (x, y), 0..1."""
    y = (torch.arange(height, dtype=dtype) + 0.5) / height
    x = (torch.arange(width, dtype=dtype) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
