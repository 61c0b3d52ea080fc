"""Layer names of the official code (docs/method.md#official-checkpoints) and ours."""

from collections.abc import Iterable

from .compvis import unet_layers, vae_layers
from .names import count

# Prefixes of the diffusion parts. Within them the official code has CompVis' names, and we have
# diffusers'.
UNET, OUR_UNET = "unet.unet.diffusion_model.", "backbone.refinement.unet."
VAE, OUR_VAE = "encoder_vq.", "backbone.latent_encoder."

# Prefix of the whole backbone in the official code.
PREFIXES = {"sem_seg": "", "depth": "encoder."}


def official_layers(task: str, names: Iterable[str]) -> dict[str, str]:
    """Map the official layer names to ours.

    Args:
        task: "sem_seg" or "depth".
        names: Names of the checkpoint's tensors, official or ours. They tell the numbers of layers.
    """
    names = list(names)
    head = _segmentation_head if task == "sem_seg" else _depth_head
    backbone = {PREFIXES[task] + old: new for old, new in _backbone(task, names).items()}
    return backbone | head(names)


def _backbone(task: str, names: list[str]) -> dict[str, str]:
    unet = unet_layers(name for name in names if UNET in name or OUR_UNET in name)
    vae = vae_layers(name for name in names if VAE in name or OUR_VAE in name)
    table = {UNET + theirs: OUR_UNET + ours for theirs, ours in unet.items()}
    table |= {VAE + theirs: OUR_VAE + ours for theirs, ours in vae.items()}

    refinement = "backbone.refinement"
    prompt_sets = count(r"meta_prompts\d*$|meta_prompts\.embeddings\.\d+$", names)
    share_prompts = task == "sem_seg" and prompt_sets == 1
    if share_prompts:
        table["meta_prompts"] = f"{refinement}.meta_prompts.embeddings.0"
    for step in range(count(r"^(encoder\.)?t\d+$|\.step_embeddings\.\d+$", names)):
        table[f"t{step + 1}"] = f"{refinement}.step_embeddings.{step}"
        table[f"text_adapter{step + 1}.fc"] = f"{refinement}.meta_prompts.adapters.{step}"
        if not share_prompts:
            table[f"meta_prompts{step + 1}"] = f"{refinement}.meta_prompts.embeddings.{step}"

    rearrangement = "backbone.rearrangement"
    levels = count(
        r"^(encoder\.)?(upconv|layer)\d+\.|\.rearrangement\.(projections|branches)\.\d+\.", names
    )
    if task == "sem_seg":
        for level in range(levels):
            table[f"upconv{level + 1}"] = f"{rearrangement}.projections.{level}"
    else:
        table["layer1"] = f"{rearrangement}.branches.0"
        for level in range(1, levels):
            ours = f"{rearrangement}.branches.{level}"
            table |= _deconvolutions(f"layer{level + 1}", ours, level)
        table["out_layer"] = f"{rearrangement}.fuse"
    return table


def _segmentation_head(names: list[str]) -> dict[str, str]:
    table = {
        **_convolution("decode_head.bottleneck", "sem_seg_head.bottleneck"),
        **_convolution("decode_head.fpn_bottleneck", "sem_seg_head.fuse"),
        "decode_head.conv_seg": "sem_seg_head.predictor",
        **_convolution("auxiliary_head.convs.0", "sem_seg_head.aux_head.0"),
        "auxiliary_head.conv_seg": "sem_seg_head.aux_head.2",
    }
    for scale in range(count(r"(psp_modules|pyramid_pooling)\.\d+", names)):
        ours = f"sem_seg_head.pyramid_pooling.{scale}.1"
        table |= _convolution(f"decode_head.psp_modules.{scale}.1", ours)
    for level in range(count(r"(lateral_conv|\.lateral)s\.\d+\.", names)):
        ours = f"sem_seg_head.laterals.{level}"
        table |= _convolution(f"decode_head.lateral_convs.{level}", ours)
        table |= _convolution(f"decode_head.fpn_convs.{level}", f"sem_seg_head.outputs.{level}")
    return table


def _depth_head(names: list[str]) -> dict[str, str]:
    # Two layers with weights for each transposed convolution, and two for the last convolution.
    layers = count(r"^decoder\.(de)?conv_layers\.\d+|^depth_head\.decoder\.\d+", names)
    decoder = _deconvolutions("decoder", "depth_head.decoder", layers // 2 - 1)
    return decoder | {"last_layer_depth": "depth_head.predictor"}


def _convolution(theirs: str, ours: str) -> dict[str, str]:
    """A convolution with its norm: mmcv's ConvModule there, Detectron2's Conv2d here."""
    return {f"{theirs}.conv": ours, f"{theirs}.bn": f"{ours}.norm"}


def _deconvolutions(theirs: str, ours: str, number: int) -> dict[str, str]:
    """Transposed convolutions, then a convolution: two lists there, a single list here."""
    first = 3 * number  # a transposed convolution, a norm and an activation each
    return {
        f"{theirs}.deconv_layers": ours,
        f"{theirs}.conv_layers.0": f"{ours}.{first}",
        f"{theirs}.conv_layers.1": f"{ours}.{first + 1}",
    }
