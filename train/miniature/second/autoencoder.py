"""The autoencoder of the second edition: 128 x 128 x 3 <-> 16 x 16 x 8 (f = 8), trained for sharp features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from train.loop import descend, train
from train.miniature.pictures import batch_of

LATENT_CHANNELS = 8
CROP = 64  # side of what all but the last fifth of the steps see: the same detail for a quarter of the work


def build_autoencoder(latent_channels: int = LATENT_CHANNELS) -> AutoencoderKL:
    """1.65M parameters, most of them where pictures are small: a kernel costs 64 times as much at 128 as at 16.

    Residual branches begin at zero, so that all the way down and up is linear at first. With that, crops and nothing
    else changed, 70 seconds of one core went as far as 270 did before (L1 0.19).
    """
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=128,
    )
    for block in vae.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
    return vae


def cropped(x: Tensor, size: int = CROP) -> Tensor:
    """A square of every picture, each at a corner of its own on the latents' grid.

    Args:
        x: (N, 3, H, W).
    """
    corners = torch.randint(0, (x.shape[-1] - size) // 8 + 1, (len(x), 2)) * 8
    return torch.stack([p[:, top : top + size, left : left + size] for p, (top, left) in zip(x, corners, strict=True)])


def detail_weight(x: Tensor) -> Tensor:
    """(N, 1, H, W) weights of mean 1: three times as much at an edge of full contrast as on a plain wall.

    A face holds a tenth of the picture and eyes a hundredth; unweighted, walls decide what is learnt first.

    Args:
        x: (N, 3, H, W) in [-1, 1].
    """
    contrast = nn.functional.max_pool2d(x, 7, 1, 3) + nn.functional.max_pool2d(-x, 7, 1, 3)
    weight = 0.5 + contrast.amax(1, keepdim=True)
    return weight / weight.mean()


def opponent(x: Tensor) -> Tensor:
    """(N, 2, H, W): red against green and blue against both, of (N, 3, H, W); 0 where a picture is grey."""
    red, green, blue = x.unbind(1)
    return torch.stack([1.05 * (red - green), 0.6 * (2 * blue - red - green)], 1)


def reconstruction_loss(x: Tensor, y: Tensor) -> Tensor:
    """Weighted L1 of pixels, squares of their colour, and L1 of differences between neighbours one and two apart.

    At first a picture comes back grey, and L1's slope at the middle colour is the same to either side, so that colour
    waits for hundreds of steps; squares pull from the first step, and weigh nothing once errors are small.
    """
    weight, error = detail_weight(x), y - x
    loss = (weight * error.abs()).mean() + 0.5 * error.square().mean() + 4 * opponent(error).square().mean()
    for step in (1, 2):
        across = (error[..., step:] - error[..., :-step]).abs() * weight[..., step:]
        down = (error[..., step:, :] - error[..., :-step, :]).abs() * weight[..., step:, :]
        loss = loss + 0.4 * (across.mean() + down.mean())
    return loss


def train_autoencoder(
    pictures: np.ndarray,
    work: Path,
    *,
    num_steps: int,
    latent_channels: int = LATENT_CHANNELS,
    batch_size: int = 16,
    peak_lr: float = 3e-3,
    start: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Train on kept pictures, from nothing or from `start`; returns the running average of the weights.

    The learning rate is constant and falls to a fiftieth over the last fifth, so that `num_steps` can be raised later.
    The network runs in bfloat16, which is half again as fast where the processor knows it; weights stay float32.
    """
    torch.manual_seed(0)
    vae = build_autoencoder(latent_channels).train()
    if start is not None:
        vae.load_state_dict(start.state_dict())
    average = AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(0.997))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak_lr, weight_decay=1e-4, betas=(0.9, 0.98))

    def learning_rate(i: int) -> float:
        return peak_lr * min(1.0, (i + 1) / 200, max(0.02, (num_steps - i) / (num_steps / 5)))

    def step(i: int) -> dict[str, float]:
        x, _ = batch_of(pictures, batch_size, i)
        torch.manual_seed(10_000 + i)
        if i < 0.8 * num_steps:
            x = cropped(x)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample
        y, mean, logvar = y.float(), posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = reconstruction_loss(x, y) + 5e-4 * kl
        descend(loss, optimizer, learning_rate(i))
        average.update_parameters(vae)
        return {"L1": (y - x).abs().mean().item(), "loss": loss.item(), "KL": kl.item()}

    parts = {"vae": vae, "average": average, "optimizer": optimizer}
    train("autoencoder", work / "autoencoder.pt", parts, num_steps, step)
    return average.module.eval()


def measure_latents(vae: AutoencoderKL, pictures: np.ndarray) -> None:
    """Set the scaling factor to one over the latents' standard deviation, and the map to colours for previews."""
    with torch.no_grad():
        x, _ = batch_of(pictures, min(256, len(pictures)), 0)
        latents = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(32)])
    scale = 1 / latents.std().item()
    vae.register_to_config(scaling_factor=scale, latent_rgb=fit_latent_rgb(latents * scale, x))


def fit_latent_rgb(latents: Tensor, images: Tensor) -> list[list[float]]:
    """Least-squares map from scaled latents to colours, for previews.

    Args:
        latents: (N, C, h, w), scaled as the denoiser sees them.
        images: (N, 3, H, W) in [-1, 1].

    Returns:
        C + 1 rows of three: a weight for each latent channel and a bias.
    """
    small = torch.nn.functional.interpolate(images, latents.shape[-2:], mode="area")
    a = torch.cat([latents, torch.ones_like(latents[:, :1])], 1).permute(0, 2, 3, 1).flatten(0, 2)
    return torch.linalg.lstsq(a, small.permute(0, 2, 3, 1).flatten(0, 2)).solution.tolist()


def polish_decoder(
    pictures: np.ndarray,
    captions: Sequence[str],
    vae: AutoencoderKL,
    estimate: Callable[[Tensor, list[str]], Tensor],
    work: Path,
    *,
    num_steps: int,
    batch_size: int = 8,
    peak_lr: float = 8e-4,
) -> None:
    """Train the decoder further on what it will be given, with the encoder frozen, so that latents stay what they are.

    Half of a batch is encoded pictures, half the denoiser's own estimates of them.

    Args:
        captions: of the pictures.
        estimate: (N, C, h, w) scaled latents and their captions -> the denoiser's estimates of them.
    """
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder])
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=peak_lr, weight_decay=1e-4, betas=(0.9, 0.98))
    half, scale = batch_size // 2, vae.config.scaling_factor

    def step(i: int) -> dict[str, float]:
        x, chosen = batch_of(pictures, batch_size, i)
        torch.manual_seed(110_000 + i)
        with torch.no_grad():
            z = vae.encode(x).latent_dist.sample()
            z = torch.cat([z[:half], estimate(z[half:] * scale, [captions[k] for k in chosen[half:]]) / scale])
        with torch.autocast("cpu", torch.bfloat16):
            y = vae.decode(z).sample
        y = y.float()
        descend(reconstruction_loss(x, y), optimizer, peak_lr * min(1.0, (i + 1) / 50, (num_steps - i) / num_steps))
        error = (y - x).detach().abs().mean((1, 2, 3))
        return {"L1": error[:half].mean().item(), "L1 of estimates": error[half:].mean().item()}

    decoder.train()
    train("decoder", work / "decoder.pt", {"decoder": decoder, "optimizer": optimizer}, num_steps, step)
    decoder.eval()
