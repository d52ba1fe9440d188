"""Denoisers whose blocks attend to text and latents together: Stable Diffusion 3 and Flux."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin
from torch import Tensor

from livo.diffusion.attention import KVGroup
from livo.diffusion.denoiser import Denoiser


class JointTransformer(Denoiser):
    """Kinds whose blocks attend to text and latents together and are trained by flow matching.

    Texts of one call have one length: to hide padding by a mask would rule out the fast kernels. Without a mask and
    without positions (Stable Diffusion 3 gives text tokens none, Flux all of them the same) the order of the tokens
    changes nothing, so a value token may stand anywhere among them; it stands first, as everywhere.

    Source:
        Esser et al. 2024 (arXiv 2403.03206), Sec. 4; Lipman et al. 2022 (arXiv 2210.02747).
    """

    is_flow = True
    reads_projected = False

    @property
    def num_inference_steps(self) -> int:
        return 28

    @property
    def pooled_width(self) -> int:
        return self.net.config.pooled_projection_dim

    @property
    def text_width(self) -> int:
        return self.net.config.joint_attention_dim

    def solver(self, stored: Mapping[str, Any]) -> type[SchedulerMixin]:
        """Flow matching's Euler steps, whatever is stored."""
        return FlowMatchEulerDiscreteScheduler

    def set_timesteps(self, scheduler: SchedulerMixin, num_steps: int, latent_size: tuple[int, int]) -> list[float]:
        config, options = scheduler.config, self._sigmas(num_steps)
        if config.use_dynamic_shifting:
            options["mu"] = self.shift_of(config, latent_size)
        scheduler.set_timesteps(num_steps, **options)
        scheduler.set_begin_index(0)  # else it searches for its first timestep
        return scheduler.sigmas.tolist()[:-1]

    def _sigmas(self, num_steps: int) -> dict[str, Any]:
        """The shares of noise to start from, before they are shifted; nothing leaves them to the scheduler."""
        return {}

    def shift_of(self, config: Mapping[str, Any], latent_size: tuple[int, int]) -> float:
        """mu, the logarithm of the shift toward noise, linear in the tokens of a picture whose latents are (h, w)."""
        base, low = config["base_image_seq_len"], config["base_shift"]
        slope = (config["max_shift"] - low) / (config["max_image_seq_len"] - base)
        return math.prod(latent_size) // self.patch**2 * slope + (low - slope * base)

    def row_bytes(self, height: int, width: int) -> int:
        """The widest moment is taken as 22 maps of C channels over all tokens, 512 of them the text's.

        For Stable Diffusion 3.5 large at 1024 pixels that is 0.49 GB in bfloat16, for Flux 0.62 GB.
        """
        config = self.net.config
        channels = config.num_attention_heads * config.attention_head_dim
        tokens = height * width / self.patch**2 + 512
        return int(22 * channels * tokens * self.dtype.itemsize)


class StableDiffusion3Transformer(JointTransformer):
    """Stable Diffusion 3 and 3.5, medium and large: CLIP's and T5's tokens in one sequence, 16 latent channels."""

    title = "Stable Diffusion 3"

    @property
    def guidance_scale(self) -> float:
        """7 as the pipeline has it for 3.0, less for 3.5, which alone normalises its queries."""
        return 4.5 if self.net.config.qk_norm else 7.0

    @property
    def patch(self) -> int:
        return self.net.config.patch_size

    def conditions(
        self, rows: int, pooled: Tensor | None, size: tuple[int, int], scales: Tensor | None = None
    ) -> dict[str, Any]:
        return {"pooled_projections": pooled}

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditions: Mapping[str, Any],
        *,
        text_kv: Sequence[KVGroup] | None = None,
        prompt_embeds: Tensor | None = None,
    ) -> Tensor:
        return self.net(
            latents, prompt_embeds, timestep=timestep.expand(len(latents)), **conditions, return_dict=False
        )[0]


class FluxTransformer(JointTransformer):
    """Flux: T5's tokens, CLIP's pooled embedding, latents in patches of 2 x 2 that are packed to 64 channels.

    "dev" was distilled from guided predictions and reads the guidance scale; "schnell" was made for four steps without
    guidance, and reads none.
    """

    title = "Flux"

    @property
    def guides_itself(self) -> bool:
        return bool(self.net.config.guidance_embeds)

    @property
    def num_inference_steps(self) -> int:
        return 28 if self.guides_itself else 4

    @property
    def guidance_scale(self) -> float:
        return 3.5 if self.guides_itself else 0.0

    @property
    def patch(self) -> int:
        return 2

    @property
    def in_channels(self) -> int:
        return self.net.config.in_channels // 4

    @property
    def out_channels(self) -> int:
        return self.net.out_channels // 4

    def _sigmas(self, num_steps: int) -> dict[str, Any]:
        return {"sigmas": [1 - i / num_steps for i in range(num_steps)]}

    def conditions(
        self, rows: int, pooled: Tensor | None, size: tuple[int, int], scales: Tensor | None = None
    ) -> dict[str, Any]:
        return {"pooled_projections": pooled, "guidance": scales}

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditions: Mapping[str, Any],
        *,
        text_kv: Sequence[KVGroup] | None = None,
        prompt_embeds: Tensor | None = None,
    ) -> Tensor:
        """All text tokens, a value token among them, are at position (0, 0, 0) of the rotary embedding."""
        assert prompt_embeds is not None
        rows, channels, height, width = latents.shape
        down, right = height // 2, width // 2
        like: dict[str, Any] = {"device": latents.device, "dtype": latents.dtype}
        places = torch.zeros(down, right, 3, **like)
        places[..., 1] = torch.arange(down, **like)[:, None]
        places[..., 2] = torch.arange(right, **like)
        packed = (
            latents.view(rows, channels, down, 2, right, 2).permute(0, 2, 4, 1, 3, 5).reshape(rows, down * right, -1)
        )
        time = timestep.expand(rows).to(latents.dtype) / 1000
        predicted = self.net(
            packed, prompt_embeds, timestep=time, img_ids=places.flatten(0, 1),
            txt_ids=torch.zeros(prompt_embeds.shape[1], 3, **like), return_dict=False, **conditions,
        )[0]  # fmt: skip
        return predicted.view(rows, down, right, -1, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(rows, -1, height, width)
