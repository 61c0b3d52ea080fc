"""Outputs of every stage of our models, under the fixtures' keys."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metaprompt_d2.diffusion import FeatureUNet
from metaprompt_d2.layers import resize


@torch.no_grad()
def unet_outputs(unet: FeatureUNet, inputs: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    features = unet(*(inputs[f"{name}/{part}"] for part in ("latents", "t", "context")))
    outputs = {f"{name}/feat{level}": feature for level, feature in enumerate(features)}
    return outputs | {f"{name}/out": unet.predict_latent(features[0])}


@torch.no_grad()
def encoder_outputs(backbone: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Return the VAE's moments and latent and every refinement step."""
    encoder = backbone.latent_encoder
    latent = encoder(image)
    outputs = {
        "vae_moments": encoder.quant_conv(encoder.encoder(image)),
        "vae_latents": latent,
    }
    batch_size = len(image)
    for number, step in enumerate(backbone.refinement.steps(latent), start=1):
        embedding = backbone.refinement.step_embeddings[number - 1]
        outputs |= {
            f"step{number}.latent_in": step.latent,
            f"step{number}.t": embedding.expand(batch_size, -1),
            f"step{number}.prompts": step.prompts.expand(batch_size, -1, -1),
        }
        outputs |= {f"step{number}.feat{i}": feature for i, feature in enumerate(step.features)}
    return outputs


@torch.no_grad()
def segmentor_outputs(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Return every stage of the segmentation model."""
    head = model.sem_seg_head
    features = model.backbone(image)
    maps = [features[name] for name in ("p2", "p3", "p4", "p5")]
    logits = head.layers(features)
    size = image.shape[-2:]
    return encoder_outputs(model.backbone, image) | {
        **{f"rearranged{level}": feature for level, feature in enumerate(maps)},
        "uper.psp": head._pool_pyramid(maps[-1]),
        "uper.feats_img0": head.fuse(torch.cat(head.pyramid(maps), dim=1))[:1],
        "logits_small": logits,
        "aux_logits_small": head.aux_head(features["p4"]),
        "logits": F.interpolate(logits, size=size, mode="bilinear", align_corners=False),
    }


@torch.no_grad()
def depth_outputs(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Return every stage of the depth model.

    Args:
        image: Images (N, 3, H, W) in [0, 1].
    """
    head, rearrangement = model.depth_head, model.backbone.rearrangement
    resized: list[Tensor] = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: resized.append(inputs[0]))
    outputs = model([{"image": each} for each in image])
    features = model._features((image - model.pixel_mean) / model.pixel_std)
    hook.remove()
    last = model.backbone.refinement(model.backbone.latent_encoder(resized[0]))
    branches = [
        branch(feature)
        for branch, feature in zip(rearrangement.branches, last.features, strict=True)
    ]
    size = image.shape[-2:]
    resized_feature = resize(features[head.in_feature], [side // head.upscale for side in size])
    decoded = head.decoder(resized_feature)
    return encoder_outputs(model.backbone, resized[0]) | {
        **{f"layer{level}_img0": branch[:1] for level, branch in enumerate(branches, start=1)},
        "fused": rearrangement.fuse(torch.cat(branches, dim=1)),
        "rearranged": features["p3"],
        "rearranged_resized": resized_feature,
        "decoder_ch_every96": decoded[:1, ::96],
        "depth_logit": head.predictor(decoded),
        "pred_d": head.layers(features, size),
        "output": torch.stack([output["depth"] for output in outputs])[:, None],
    }


@torch.no_grad()
def probabilities(
    segmentor: nn.Module, image: Tensor, size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the softmax of an image (C, H, W) at a size, and of its flip, flipped back."""
    height, width = size

    def predict(image: Tensor) -> Tensor:
        (output,) = segmentor([{"image": image, "height": height, "width": width}])
        return output["sem_seg"].softmax(dim=0)

    return predict(image), predict(image.flip(-1)).flip(-1)


def assert_classes(probabilities: Tensor, classes: Tensor) -> None:
    """Check the most probable classes (H, W) wherever a class is clearly ahead."""
    best, second = probabilities.topk(2, dim=0).values
    clear = best - second > 1e-3  # elsewhere rounding may decide
    assert clear.float().mean() > 0.99
    torch.testing.assert_close(probabilities.argmax(dim=0)[clear], classes.long()[clear])
