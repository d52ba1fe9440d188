"""What a build will cost: images, U-Net work and bytes, before anything is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel

from livo.diffusion.flops import row_flop
from train.preference_data.card import PAPER_IMAGES
from train.preference_data.scenarios import Scenario
from train.preference_data.settings import SampleSettings

PNG_BYTES_PER_PIXEL = 1.5
"""Of 3, for pictures such as Stable Diffusion's; those of the drawn world are smaller."""

GPU_TFLOPS = 100.0
"""What one GPU is taken to sustain, in 10^12 operations a second: a third of an A100's float16 peak."""


@dataclass(frozen=True)
class BuildCost:
    """Upper bounds: prompts without a bias make no images, and toxic pairs are filtered.

    Attributes:
        images: kept at most.
        looked_at: generated only to see the model's own distribution.
        rows: U-Net rows: Stable Diffusion 2 an image and step, safe latent diffusion 3.
    """

    images: int
    looked_at: int
    rows: int
    tflop: float
    bytes: int
    gpu_tflops: float

    def lines(self) -> str:
        """For people."""
        hours = self.tflop / self.gpu_tflops / 3600
        return "\n".join((
            f"images    {self.images:,} at most (the paper: {PAPER_IMAGES:,}), and {self.looked_at:,} to see the bias",
            f"U-Net     {self.rows:,} rows, {self.tflop:,.0f} TFLOP: {hours:,.2f} GPU-hours at {self.gpu_tflops:g}/s",
            f"bytes     {self.bytes:,} ({self.bytes / 1e9:,.1f} GB) at {PNG_BYTES_PER_PIXEL} bytes a pixel",
        ))  # fmt: skip


def estimate(
    unet_config: dict, vae_scale: int, train: Sequence[Scenario], settings: SampleSettings, gpu_tflops: float
) -> BuildCost:
    """The cost of a build. The U-Net is laid out without weights."""
    social = [s for s in train if s.cells]
    balanced = sum(len(s.cells) * settings.cell_images for s in social)
    toxic = (len(train) - len(social)) * settings.toxic_images
    looked_at = len(social) * settings.unspecified_images
    rows = settings.num_inference_steps * (2 * (balanced + looked_at) + 5 * toxic)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(unet_config)
    flop = row_flop(unet, settings.height // vae_scale, settings.width // vae_scale)
    images = balanced + 2 * toxic
    size = round(images * settings.height * settings.width * PNG_BYTES_PER_PIXEL)
    return BuildCost(images, looked_at, rows, rows * flop / 1e12, size, gpu_tflops)
