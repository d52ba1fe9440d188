"""Stage 3: the denoiser. Encodes a data set of pictures to latents once, then trains the U-Net on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from livo.miniature.world import World
from train.loop import descend, save_state, train
from train.miniature.data import Source, to_model_range
from train.miniature.text_encoder import tokenize

DROPPED = 0.1  # share of captions replaced by the empty prompt, for classifier-free guidance


def build_denoiser(channels: int = 4) -> UNet2DConditionModel:
    """7.4M parameters; latents of 16 x 16 x `channels`, cross-attention at 8 x 8 and 4 x 4, attention written out."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(64, 96, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=8,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def build_noise_schedule() -> DDPMScheduler:
    """Stable Diffusion's: 1,000 steps, scaled linear, epsilon prediction."""
    return DDPMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )


@torch.no_grad()
def encode_pictures(
    world: World, source: Source, vae: AutoencoderKL, work: Path, *, count: int = 100_000
) -> tuple[Tensor, list[str]]:
    """Render `count` pictures and encode them; kept in a file.

    Returns:
        (count, C, 16, 16) float16 latents, scaled, and their captions.
    """
    path = work / "latents.pt"
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return stored["latents"], stored["captions"]
    latents, captions = [], []
    for first in tqdm(range(0, count, 500), desc="latents"):
        batch = source.scenes(world, 50_000 + first, 500)
        pictures = to_model_range(source.pictures(world, [s for s, _ in batch]))
        torch.manual_seed(first)
        with torch.autocast("cpu", torch.bfloat16):  # with channels last a third of the time, half a percent off
            moments = vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist
            latents.append((moments.sample().float() * vae.config.scaling_factor).half())
        captions += [text for _, text in batch]
    save_state(path, {"latents": torch.cat(latents), "captions": captions})
    return torch.cat(latents), captions


@torch.no_grad()
def encode_captions(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(N, 77, 128) float16 embeddings of N captions."""
    out = [
        text_encoder(tokenize(tokenizer, captions[i : i + 250])).last_hidden_state.half()
        for i in tqdm(range(0, len(captions), 250), desc="captions")
    ]
    return torch.cat(out)


@torch.no_grad()
def follow(averages: Sequence[Tensor], weights: Sequence[Tensor], seen: Tensor | int) -> None:
    """Moves the running averages of weights towards them: by a thousandth, and by more in a training's first 9,000
    steps, whose early weights would otherwise stay in the average (15 % of it at step 1,900).

    Args:
        averages, weights: the same tensors of both networks.
        seen: the weights averaged so far.
    """
    share = 1 - min(0.999, (1 + int(seen)) / (10 + int(seen)))
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight, share)


def finished_denoiser(work: Path, num_steps: int, channels: int = 4) -> UNet2DConditionModel | None:
    """The running average of a training that reached `num_steps`, or None where it has yet to."""
    path = work / "denoiser.pt"
    if not path.exists() or (state := torch.load(path, weights_only=True))["step"] < num_steps:
        return None
    average = AveragedModel(build_denoiser(channels))
    average.load_state_dict(state["average"])
    return average.module.eval()


@torch.no_grad()
def estimate_clean(unet: UNet2DConditionModel, latents: Tensor, prompt_embeds: Tensor, *, most: int = 300) -> Tensor:
    """The denoiser's x0 estimates of (N, C, h, w) latents after noise of random timesteps in [20, most)."""
    t = torch.randint(20, most, (len(latents),))
    a = build_noise_schedule().alphas_cumprod[t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * latents + (1 - a).sqrt() * torch.randn_like(latents)
    return (noisy - (1 - a).sqrt() * unet(noisy, t, prompt_embeds).sample) / a.sqrt()


def train_denoiser(
    work: Path,
    latents: Tensor,
    prompt_embeds: Tensor,
    empty: Tensor,
    *,
    num_steps: int = 6400,
    batch_size: int = 64,
    peak_lr: float = 1.2e-3,
    snr_gamma: float = 5.0,
    start: UNet2DConditionModel | None = None,
) -> UNet2DConditionModel:
    """Train by the min-SNR weighted noise prediction loss, from nothing or from `start`; returns the running average of
    the weights.

    The learning rate is constant and falls to nothing over the last quarter, so that `num_steps` can be raised later.
    The network runs in bfloat16 and its attention is written out, since the fused one's backward pass is seven times
    slower so: 1.6 times as fast where the processor knows bfloat16 (AMX). Weights stay float32.

    Args:
        latents: (M, C, 16, 16) scaled latents.
        prompt_embeds: (M, 77, D) of their captions.
        empty: (77, D), the empty prompt.

    Source:
        Ho et al. 2020 (loss), Hang et al. 2023 (min-SNR weights, gamma = 5).
    """
    torch.manual_seed(2)
    unet = build_denoiser(latents.shape[1]).train()
    if start is not None:
        unet.load_state_dict(start.state_dict())
    average = AveragedModel(unet, multi_avg_fn=follow)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=peak_lr, weight_decay=1e-3, betas=(0.9, 0.99))
    alphas = build_noise_schedule().alphas_cumprod
    snr = alphas / (1 - alphas)
    weight = snr.clamp(max=snr_gamma) / snr
    per_epoch = len(latents) // batch_size

    def learning_rate(i: int) -> float:
        return peak_lr * min(1.0, (i + 1) / 200, max(0.02, (num_steps - i) / (num_steps / 4)))

    def step(i: int) -> dict[str, float]:
        epoch, k = divmod(i, per_epoch)
        order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(epoch))
        index = order[k * batch_size : (k + 1) * batch_size]
        torch.manual_seed(60_000 + i)
        clean = latents[index].float()
        context = prompt_embeds[index].float()
        context[torch.rand(len(index)) < DROPPED] = empty
        t = torch.randint(0, 1000, (len(index),))
        noise = torch.randn_like(clean)
        a = alphas[t].view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(a.sqrt() * clean + (1 - a).sqrt() * noise, t, context).sample
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        loss = (weight[t] * error).mean()
        descend(loss, optimizer, learning_rate(i))
        average.update_parameters(unet)
        return {"MSE": error.mean().item(), "loss": loss.item()}

    train("denoiser", work / "denoiser.pt", {"unet": unet, "average": average, "optimizer": optimizer}, num_steps, step)
    return average.module.eval()
