"""Mask2Former's decoders and losses, those of transformers, on a backbone's features.

This module needs the extra "mask2former". `Mask2FormerHead` imports it when it is built.
"""

from collections.abc import Sequence

from fvcore.nn import weight_init
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerPreTrainedModel
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerLoss,
    Mask2FormerPixelDecoder,
    Mask2FormerTransformerModule,
)

__all__ = ["Mask2FormerConfig", "Mask2FormerDecoders", "Mask2FormerLoss"]


class Mask2FormerDecoders(Mask2FormerPreTrainedModel):
    """The part of transformers' Mask2Former that follows its backbone.

    The weights have the names of `Mask2FormerForUniversalSegmentation`, without the prefixes
    "model" and "model.pixel_level_module". They are initialized as in the authors' code, not as in
    transformers, which draws the pixel decoder's from a normal distribution of deviation 0.02: the
    masks then learn nothing for the first updates.
    """

    def __init__(self, config: Mask2FormerConfig, in_channels: Sequence[int]):
        """
        Args:
            config: Sizes, and the strides of the features, fine to coarse.
            in_channels: Channels of the features.
        """
        super().__init__(config)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, list(in_channels))
        self.transformer_module = Mask2FormerTransformerModule(config.feature_size, config)
        self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
        self.post_init()
        for module in self.pixel_decoder.modules():
            if isinstance(module, nn.Conv2d):
                weight_init.c2_xavier_fill(module)
        for layer in self.pixel_decoder.encoder.layers:
            nn.init.xavier_uniform_(layer.fc1.weight)
            nn.init.xavier_uniform_(layer.fc2.weight)
        self.class_predictor.reset_parameters()

    def train(self, mode: bool = True) -> "Mask2FormerDecoders":
        """Set the mode of all parts but the deformable attention, which is the same in both.

        In training mode each of its layers would wait for the device, to clamp infinite values.
        """
        super().train(mode)
        self.pixel_decoder.encoder.eval()
        return self

    def forward(self, features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Predict classes and masks from features, fine to coarse.

        Returns:
            A prediction before the first layer of the transformer decoder and one after each.
        """
        maps = self.pixel_decoder(features)
        decoded = self.transformer_module(maps.multi_scale_features, maps.mask_features)
        queries = decoded.intermediate_hidden_states
        classes = [self.class_predictor(query.transpose(0, 1)) for query in queries]
        return list(zip(classes, decoded.masks_queries_logits, strict=True))
