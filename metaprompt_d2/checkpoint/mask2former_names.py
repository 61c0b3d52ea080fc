"""Layer names of Mask2Former in its authors' layout, in transformers' and in our head."""

from collections.abc import Iterable

from .names import count

# Parts of our head. Their layers have transformers' names.
PIXEL_DECODER = "sem_seg_head.decoders.pixel_decoder"
TRANSFORMER = "sem_seg_head.decoders.transformer_module"
CLASSES = "sem_seg_head.decoders.class_predictor"
_CRITERION = "sem_seg_head.criterion"

# transformers' names -> ours.
TRANSFORMERS = {
    "model.pixel_level_module.decoder": PIXEL_DECODER,
    "model.transformer_module": TRANSFORMER,
    "class_predictor": CLASSES,
    "criterion": _CRITERION,
}

# Layout -> prefix of a backbone that it doesn't have.
BACKBONES = {"mask2former": "model.pixel_level_module.encoder.", "transformers": "backbone."}

# Versions of the names below, by the module that reads them.
VERSIONS = {"sem_seg_head": 2, "sem_seg_head.predictor": 2}

_PREDICTOR = "sem_seg_head.predictor"
# The authors' names -> ours, but for what is numbered.
_DETECTRON2 = {
    "sem_seg_head.pixel_decoder.input_proj": f"{PIXEL_DECODER}.input_projections",
    "sem_seg_head.pixel_decoder.transformer.level_embed": f"{PIXEL_DECODER}.level_embed",
    "sem_seg_head.pixel_decoder.mask_features": f"{PIXEL_DECODER}.mask_projection",
    f"{_PREDICTOR}.static_query": f"{TRANSFORMER}.queries_features",  # the older name: read only
    f"{_PREDICTOR}.query_feat": f"{TRANSFORMER}.queries_features",
    f"{_PREDICTOR}.query_embed": f"{TRANSFORMER}.queries_embedder",
    f"{_PREDICTOR}.level_embed": f"{TRANSFORMER}.level_embed",
    f"{_PREDICTOR}.input_proj": f"{TRANSFORMER}.input_projections",
    f"{_PREDICTOR}.decoder_norm": f"{TRANSFORMER}.decoder.layernorm",
    f"{_PREDICTOR}.class_embed": CLASSES,
    "criterion": _CRITERION,
}
# Parts of a layer of the pixel decoder.
_ENCODER_LAYER = {
    "self_attn": "self_attn",
    "norm1": "self_attn_layer_norm",
    "linear1": "fc1",
    "linear2": "fc2",
    "norm2": "final_layer_norm",
}
# Three lists of the authors', with one entry for each of our layers -> parts of the layer.
_DECODER_LISTS = {
    "transformer_self_attention_layers": {
        "self_attn": "self_attn",
        "norm": "self_attn_layer_norm",
    },
    "transformer_cross_attention_layers": {
        "multihead_attn": "cross_attn",
        "norm": "cross_attn_layer_norm",
    },
    "transformer_ffn_layers": {
        "linear1": "fc1",
        "linear2": "fc2",
        "norm": "final_layer_norm",
    },
}


def detectron2_layers(names: Iterable[str]) -> dict[str, str]:
    """Map the authors' layer names to ours.

    Args:
        names: Names of tensors, the authors' or ours. They tell the numbers of layers.
    """
    names = list(names)
    table = dict(_DETECTRON2)
    for level in range(1, 1 + count(r"pixel_decoder\.adapter_\d+\.", names)):
        for layer in (f"adapter_{level}", f"layer_{level}"):
            theirs, ours = f"sem_seg_head.pixel_decoder.{layer}", f"{PIXEL_DECODER}.{layer}"
            table |= {theirs: f"{ours}.0", f"{theirs}.norm": f"{ours}.1"}
    for number in range(count(r"pixel_decoder\.(transformer\.)?encoder\.layers\.\d+\.", names)):
        theirs = f"sem_seg_head.pixel_decoder.transformer.encoder.layers.{number}"
        ours = f"{PIXEL_DECODER}.encoder.layers.{number}"
        table |= {f"{theirs}.{old}": f"{ours}.{new}" for old, new in _ENCODER_LAYER.items()}
    for number in range(count(r"(transformer_ffn_|_module\.decoder\.)layers\.\d+\.", names)):
        ours = f"{TRANSFORMER}.decoder.layers.{number}"
        for layers, parts in _DECODER_LISTS.items():
            theirs = f"{_PREDICTOR}.{layers}.{number}"
            table |= {f"{theirs}.{old}": f"{ours}.{new}" for old, new in parts.items()}
    for number in range(count(r"mask_embed(\.layers|der)\.\d+\.", names)):
        ours = f"{TRANSFORMER}.decoder.mask_predictor.mask_embedder.{number}.0"
        table[f"{_PREDICTOR}.mask_embed.layers.{number}"] = ours
    return table
