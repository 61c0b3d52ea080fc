"""The sizes of the mini diffusion model that ships with the package."""


def shrink(model, train, dataloader):
    """Make a recipe one for the mini world: small, one refinement step, loaded in-process."""
    model.backbone.refinement.unet.update(
        block_out_channels=[48, 64, 96, 96],
        layers_per_block=1,
        cross_attention_dim=64,
        num_heads=4,
        norm_num_groups=16,
    )
    model.backbone.refinement.num_steps = 1
    model.backbone.refinement.meta_prompts.num_prompts = 32
    model.backbone.latent_encoder.update(
        block_out_channels=[16, 32, 48, 64],
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
    )
    train.diffusion.weights = "metaprompt_d2://mini/diffusion"
    dataloader.train.num_workers = dataloader.test.num_workers = 0
