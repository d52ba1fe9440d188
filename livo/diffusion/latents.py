"""Latents at both ends of the sampler: the noise it starts from, quick looks on the way, the images it ends in and
their files.

Plain functions; nothing here knows of plans or methods.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Generator, Tensor


def initial_noise(seeds: Sequence[int], shape: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, list[Generator]]:
    """x_T on the CPU, one generator a seed, so an image does not depend on its neighbours or on the device.

    The numbers are those that diffusers draws for a list of CPU generators.

    Args:
        seeds: J integers.
        shape: (C, h, w) of one latent.
        dtype: of the latents; noise drawn in another dtype is other noise.

    Returns:
        (J, C, h, w) noise of variance 1, and the J generators, for schedulers that draw more on the way.
    """
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(tuple(shape), generator=g, dtype=dtype) for g in generators]), generators


def estimate_x0(model_input: Tensor, noise_pred: Tensor, level: float, prediction_type: str) -> Tensor:
    """The finished latents as the network imagines them now.

    x0 = (x_t - sqrt(1 - a) eps) / sqrt(a), or sqrt(a) x_t - sqrt(1 - a) v; of flow matching x_s - s v

    Args:
        model_input: (J, C, h, w) x_t as the U-Net saw it.
        noise_pred: (J, C, h, w) guided prediction.
        level: the cumulative alpha a at this timestep, in (0, 1); of flow matching the share of noise s, in (0, 1].
        prediction_type: "epsilon", "v_prediction", "sample" or "flow".

    Source:
        Ho et al. 2020 (arXiv 2006.11239), eq. 15; Salimans & Ho 2022 (arXiv 2202.00512), appendix D; Lipman et al.
        2022 (arXiv 2210.02747), Sec. 4.1, with the noise at s = 1.
    """
    if prediction_type == "flow":
        return model_input - level * noise_pred
    signal, noise = level**0.5, (1 - level) ** 0.5
    if prediction_type == "epsilon":
        return (model_input - noise * noise_pred) / signal
    if prediction_type == "v_prediction":
        return signal * model_input - noise * noise_pred
    return noise_pred


def scaled(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents as the VAE encodes them -> as the denoiser reads them, about of variance 1; some have a shift too."""
    return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


@torch.no_grad()
def latent_rgb(vae: AutoencoderKL) -> Tensor:
    """The linear map from a latent pixel to its colour: (C + 1, 3), the last row the bias, colours in [-1, 1].

    Read from `latent_rgb` in the VAE's config.json where its training wrote one; else a least-squares fit to the
    latents of flat colours, which is coarse but needs no data.
    """
    weight = next(vae.parameters())
    if (stored := vae.config.get("latent_rgb")) is not None:
        return torch.tensor(stored, dtype=weight.dtype, device=weight.device)
    colours = torch.tensor(list(itertools.product((-0.8, 0.0, 0.8), repeat=3)), dtype=weight.dtype)
    side = 8 * 2 ** (len(vae.config.block_out_channels) - 1)
    images = colours[:, :, None, None].expand(-1, -1, side, side)
    latents = [vae.encode(image[None].to(weight)).latent_dist.mode() for image in images]
    flat = scaled(vae, torch.cat(latents)).cpu().double().mean(dim=(2, 3))  # MPS knows no float64
    design = torch.cat([flat, torch.ones(len(flat), 1, dtype=flat.dtype)], dim=1)
    # The normal equations with a little ridge: untrained VAEs have collinear latents.
    gram = design.T @ design + 1e-6 * torch.eye(design.shape[1], dtype=flat.dtype)
    return torch.linalg.solve(gram, design.T @ colours.double()).to(weight)


@torch.no_grad()
def preview(x0: Tensor, rgb: Tensor) -> Tensor:
    """(J, C, h, w) latents -> (J, 3, h, w) uint8 on their device, without the VAE. `rgb` is `latent_rgb`'s map."""
    colours = torch.einsum("jchw,cr->jrhw", x0.to(rgb), rgb[:-1]) + rgb[-1][:, None, None]
    return to_uint8(colours)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, C, h, w) latents: the mode of the VAE's posterior, scaled as the denoiser reads it."""
    weight = next(vae.parameters())
    return scaled(vae, vae.encode((images.float() / 127.5 - 1).to(weight)).latent_dist.mode())


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor, memory_budget: int) -> Tensor:
    """(J, C, h, w) latents -> (J, 3, H, W) uint8 on the CPU, as many at a time as fit `memory_budget` bytes.

    One image is taken to need 4 maps of its widest full-size layer: a decoder's peak is in its last up-block.
    """
    channels = vae.config.block_out_channels
    scale = 2 ** (len(channels) - 1)
    pixels = latents.shape[-2] * latents.shape[-1] * scale * scale
    own = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    own = own.to(next(vae.parameters()).dtype)  # SDXL's may be wider than its U-Net
    image_bytes = 4 * max(channels[:2]) * pixels * own.element_size()
    chunks = own.split(max(1, memory_budget // image_bytes))
    return torch.cat([_decode_what_fits(vae, chunk) for chunk in chunks])


def _decode_what_fits(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """As many at a time as the device's memory holds: halved and halved again where it is full.

    Raises:
        torch.OutOfMemoryError: it does not hold one image.
    """
    try:
        return to_uint8(vae.decode(latents, return_dict=False)[0]).cpu()
    except torch.OutOfMemoryError:
        if len(latents) == 1:
            raise
    if latents.is_cuda:
        torch.cuda.empty_cache()  # here, where no exception holds on to what was allocated
    return torch.cat([_decode_what_fits(vae, half) for half in latents.tensor_split(2)])


def to_uint8(images: Tensor) -> Tensor:
    """Colours in [-1, 1], clipped, -> uint8 in 0..255."""
    return (images / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)


class Arriving:
    """A copy of a tensor on its way to the CPU; on a GPU it is pinned and the CPU does not wait for it until asked."""

    def __init__(self, tensor: Tensor) -> None:
        self._copy = tensor.to("cpu", non_blocking=True)
        self._done = torch.cuda.Event() if tensor.is_cuda else None
        if self._done is not None:
            self._done.record()

    def wait(self) -> Tensor:
        """The copy, once it is whole."""
        if self._done is not None and not self._done.query():
            self._done.synchronize()
        return self._copy


def encode_png(image: Tensor) -> bytes:
    """(3, H, W) uint8 -> the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, "png")
    return buffer.getvalue()
