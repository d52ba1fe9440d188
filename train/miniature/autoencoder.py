"""Stage 2: the autoencoder. f = 4, four latent channels, trained by L1 on pixels and on their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from livo.miniature.world import World
from train.loop import descend, train
from train.miniature.data import Source, to_model_range
from train.miniature.second.autoencoder import fit_latent_rgb


def build_autoencoder() -> AutoencoderKL:
    """0.41M parameters; 64 x 64 x 3 <-> 16 x 16 x 4."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 48),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
    )


def reconstruction_loss(x: Tensor, y: Tensor) -> Tensor:
    """L1 of pixels plus L1 of horizontal and vertical differences, which keeps small features sharp."""
    error = y - x
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + 0.5 * error.square().mean() + 0.5 * edges


def train_autoencoder(
    world: World, source: Source, work: Path, *, num_steps: int = 1800, batch_size: int = 32
) -> AutoencoderKL:
    """Train, then set the scaling factor to one over the latents' standard deviation."""
    torch.manual_seed(0)
    vae = build_autoencoder().train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=1e-4, betas=(0.9, 0.98))

    def learning_rate(i: int) -> float:
        return 2.5e-3 * min(1.0, (i + 1) / 150) * (0.02 + 0.49 * (1 + math.cos(math.pi * i / num_steps)))

    def step(i: int) -> dict[str, float]:
        torch.manual_seed(10_000 + i)
        x = to_model_range(source.pictures(world, [s for s, _ in source.scenes(world, 20_000 + i, batch_size)]))
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        loss = reconstruction_loss(x, y) + 1e-6 * posterior.kl().mean()
        descend(loss, optimizer, learning_rate(i))
        return {"L1": (y - x).abs().mean().item(), "loss": loss.item()}

    train("autoencoder", work / "autoencoder.pt", {"vae": vae, "optimizer": optimizer}, num_steps, step)
    vae.eval()
    with torch.no_grad():
        x = to_model_range(source.pictures(world, [s for s, _ in source.scenes(world, 7, 512)]))
        latents = vae.encode(x).latent_dist.mean
    vae.register_to_config(
        scaling_factor=1 / latents.std().item(), latent_rgb=fit_latent_rgb(latents / latents.std(), x)
    )
    return vae


def polish_decoder(
    world: World,
    source: Source,
    vae: AutoencoderKL,
    estimate: Callable[[Tensor, list[str]], Tensor],
    work: Path,
    *,
    num_steps: int = 1100,
    batch_size: int = 32,
) -> None:
    """Stage 4: train the decoder further on what it will be given, with the encoder frozen, so that latents stay what
    they are. Half of a batch is encoded pictures, half the denoiser's own estimates of them.

    Args:
        estimate: (N, 4, h, w) scaled latents and their captions -> the denoiser's estimates of them.
    """
    decoder = torch.nn.ModuleList([vae.post_quant_conv, vae.decoder])
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1.2e-3, weight_decay=1e-4, betas=(0.9, 0.98))
    half, scale = batch_size // 2, vae.config.scaling_factor

    def step(i: int) -> dict[str, float]:
        torch.manual_seed(110_000 + i)
        batch = source.scenes(world, 120_000 + i, batch_size)
        x = to_model_range(source.pictures(world, [scene for scene, _ in batch]))
        with torch.no_grad():
            z = vae.encode(x).latent_dist.sample()
            z = torch.cat([z[:half], estimate(z[half:] * scale, [text for _, text in batch[half:]]) / scale])
        y = vae.decode(z).sample
        loss = reconstruction_loss(x, y)
        descend(
            loss, optimizer, 1.2e-3 * min(1.0, (i + 1) / 50) * (0.02 + 0.49 * (1 + math.cos(math.pi * i / num_steps)))
        )
        error = (y - x).detach().abs().mean((1, 2, 3))
        return {"L1": error[:half].mean().item(), "L1 of estimates": error[half:].mean().item(), "loss": loss.item()}

    decoder.train()
    train("decoder", work / "decoder.pt", {"decoder": decoder, "optimizer": optimizer}, num_steps, step)
    decoder.eval()
