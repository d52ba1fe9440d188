"""What differs between denoisers: how each is called, what it reads beside tokens, what a row of a call costs.

One small class a kind, found from the network itself by `denoiser_of`; the engine, the batch and the attention name
none of them. There are two families. Keys and values of the cross-attention of Stable Diffusion, SDXL and PixArt depend
on neither latents nor timestep, so each text is projected once a run (`CrossAttending`). Stable Diffusion 3 and Flux
have no such layers: their blocks change the text together with the latents, anew at every step, so the texts travel
with every call (`JointTransformer`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SchedulerMixin,
    SD3Transformer2DModel,
)
from torch import Tensor

from livo.diffusion.attention import KVGroup
from livo.diffusion.denoiser import Denoiser, DenoiserNet, few_step_solver
from livo.diffusion.joint_transformers import FluxTransformer, StableDiffusion3Transformer


class CrossAttending(Denoiser):
    """Kinds whose cross-attention reads projected texts."""

    def read(self, prompt_embeds: Tensor) -> Tensor:
        """(U, L, D) tokens -> what the cross-attention projects to keys and values, (U, L, its width)."""
        return prompt_embeds

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditions: Mapping[str, Any],
        *,
        text_kv: Sequence[KVGroup] | None = None,
        prompt_embeds: Tensor | None = None,
    ) -> Tensor:
        if prompt_embeds is None:  # diffusers takes a layer for cross-attention by this tensor alone
            prompt_embeds = latents.new_zeros(len(latents), 1, self.text_width)
        kwargs = {} if text_kv is None else {"text_kv": text_kv}
        return self._predict(
            latents, timestep, prompt_embeds, {**conditions, "cross_attention_kwargs": kwargs, "return_dict": False}
        )

    @abstractmethod
    def _predict(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor, options: Mapping[str, Any]) -> Tensor:
        """The network's own order of arguments -> (rows, C, h, w)."""


def guidance_embedding(scales: Tensor, width: int) -> Tensor:
    """(rows,) guidance scales -> (rows, width): sines and cosines of 1000 (scale - 1) at falling frequencies.

    Source:
        Luo et al. 2023 (arXiv 2310.04378), Sec. 4.1, as diffusers' LatentConsistencyModelPipeline has it.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=scales.device) * -(math.log(10_000.0) / (half - 1)))
    angles = (scales.float() - 1)[:, None] * 1000.0 * frequencies
    embedded = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(embedded, (0, width % 2))


class StableDiffusionUNet(CrossAttending):
    """The U-Net of Stable Diffusion 1.x and 2.x, and of latent consistency models, which read the guidance scale."""

    title = "Stable Diffusion 1.x"

    @property
    def guidance_scale(self) -> float:
        return 8.5 if self.guides_itself else 7.5

    @property
    def guides_itself(self) -> bool:
        return self.net.config.time_cond_proj_dim is not None

    def solver(self, stored: Mapping[str, Any]) -> type[SchedulerMixin]:
        """DPM-Solver++ but for models of a few steps: what is stored often is a solver that wants twice the steps."""
        return few_step_solver(stored) or DPMSolverMultistepScheduler

    def conditions(
        self, rows: int, pooled: Tensor | None, size: tuple[int, int], scales: Tensor | None = None
    ) -> dict[str, Any]:
        if not self.guides_itself:
            return {}
        scales = torch.ones(rows, device=self.device) if scales is None else scales
        embedded = guidance_embedding(scales, self.net.config.time_cond_proj_dim)
        return {"timestep_cond": embedded.to(self.device, self.dtype)}

    def _predict(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor, options: Mapping[str, Any]) -> Tensor:
        return self.net(latents, timestep, prompt_embeds, **options)[0]

    def row_bytes(self, height: int, width: int) -> int:
        """The widest moment of a level is taken as 32 maps of its C channels where it attends (feed-forward of 8 C),
        else as 20 (concatenated skips, their copies); skips of all levels stay alive on top.

        For Stable Diffusion 1.5 in float32 at 256 pixels that is 50 MB, where 54 MB a row was measured and the tensors
        alive come to 34 MB; for SDXL at 1024 pixels 530 MB, where they come to 331 MB.
        """
        config = self.net.config
        depth, channels = config.layers_per_block, config.block_out_channels
        depths = [depth] * len(channels) if isinstance(depth, int) else depth
        maps = [c * height * width / 4**level for level, c in enumerate(channels)]
        widest = max(
            (32 if "CrossAttn" in block else 20) * size
            for block, size in zip(config.down_block_types, maps, strict=True)
        )
        skips = sum((d + 1) * size for d, size in zip(depths, maps, strict=True))
        return int((widest + skips) * next(self.net.parameters()).element_size())


class StableDiffusionXLUNet(StableDiffusionUNet):
    """SDXL's U-Net also reads the prompt's pooled embedding and six numbers: original size, crop, target size.

    The original size is what is asked for and the crop is at (0, 0), as StableDiffusionXLPipeline has it by default.

    Source:
        Podell et al. 2023 (arXiv 2307.01952), Sec. 2.2.
    """

    title = "Stable Diffusion XL"
    solver = Denoiser.solver

    @property
    def guidance_scale(self) -> float:
        return 8.0 if self.guides_itself else 5.0

    @property
    def pooled_width(self) -> int:
        config = self.net.config
        return config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim

    def vae_dtype(self, config: Mapping[str, Any], dtype: torch.dtype) -> torch.dtype:
        """float32 beside float16 where the VAE asks for it: SDXL's own overflows there."""
        return torch.float32 if dtype == torch.float16 and config.get("force_upcast", True) else dtype

    def conditions(
        self, rows: int, pooled: Tensor | None, size: tuple[int, int], scales: Tensor | None = None
    ) -> dict[str, Any]:
        if pooled is None:
            raise ValueError("SDXL reads a pooled embedding beside the tokens; none was given")
        time_ids = torch.tensor([*size, 0, 0, *size], dtype=pooled.dtype, device=pooled.device).expand(rows, -1)
        added = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": time_ids}}
        return super().conditions(rows, pooled, size, scales) | added


class PixArtTransformer(CrossAttending):
    """PixArt's transformer, alpha or sigma: T5 tokens through a projection of its own, a variance beside the noise.

    The variance, the second half of its channels, is left out, as its pipelines do. Rows carry no padding, so there is
    no mask: the tokens that a mask would hide are not there.

    Source:
        Chen et al. 2023 (arXiv 2310.00426), Sec. 2.3; Chen et al. 2024 (arXiv 2403.04692).
    """

    title = "PixArt"

    @property
    def num_inference_steps(self) -> int:
        return 20

    @property
    def guidance_scale(self) -> float:
        return 4.5

    @property
    def text_width(self) -> int:
        return self.net.config.caption_channels or self.net.config.cross_attention_dim

    @property
    def patch(self) -> int:
        return self.net.config.patch_size

    def read(self, prompt_embeds: Tensor) -> Tensor:
        return prompt_embeds if self.net.caption_projection is None else self.net.caption_projection(prompt_embeds)

    def conditions(
        self, rows: int, pooled: Tensor | None, size: tuple[int, int], scales: Tensor | None = None
    ) -> dict[str, Any]:
        """Resolution and aspect ratio where the network was trained with them, as alpha's of 1024 pixels was."""
        added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.net.use_additional_conditions:
            like = next(self.net.parameters())
            added["resolution"] = like.new_tensor(size).expand(rows, -1)
            added["aspect_ratio"] = like.new_tensor([size[0] / size[1]]).expand(rows, -1)
        return {"added_cond_kwargs": added}

    def _predict(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor, options: Mapping[str, Any]) -> Tensor:
        return self.net(latents, prompt_embeds, timestep.expand(len(latents)), **options)[0][:, : latents.shape[1]]

    def row_bytes(self, height: int, width: int) -> int:
        """Its widest moment, a block's feed-forward, is taken as 20 maps of C channels; the tensors alive are 13."""
        config = self.net.config
        channels = config.num_attention_heads * config.attention_head_dim
        return int(20 * channels * height * width / config.patch_size**2 * next(self.net.parameters()).element_size())


def denoiser_of(net: DenoiserNet) -> Denoiser:
    """The network as its kind, told by its class and its config."""
    for network, kind in (
        (PixArtTransformer2DModel, PixArtTransformer),
        (SD3Transformer2DModel, StableDiffusion3Transformer),
        (FluxTransformer2DModel, FluxTransformer),
    ):
        if isinstance(net, network):
            return kind(net)
    is_xl = net.config.addition_embed_type == "text_time"
    return StableDiffusionXLUNet(net) if is_xl else StableDiffusionUNet(net)
