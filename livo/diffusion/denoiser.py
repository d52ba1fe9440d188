"""What every denoiser can be asked, whatever its kind (`livo.diffusion.denoisers`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FluxTransformer2DModel,
    LCMScheduler,
    PixArtTransformer2DModel,
    SchedulerMixin,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import Tensor

from livo.diffusion.attention import KVGroup

SOLVERS = {solver.__name__: solver for solver in (DPMSolverMultistepScheduler, EulerDiscreteScheduler)}
"""Those that newer models are stored with and that draw no noise on the way."""
TURBO_SOLVERS = {solver.__name__: solver for solver in (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler)}
DenoiserNet: TypeAlias = (
    UNet2DConditionModel | PixArtTransformer2DModel | SD3Transformer2DModel | FluxTransformer2DModel
)
NETWORKS = {
    network.__name__: network
    for network in (UNet2DConditionModel, PixArtTransformer2DModel, SD3Transformer2DModel, FluxTransformer2DModel)
}


def few_step_solver(stored: Mapping[str, Any]) -> type[SchedulerMixin] | None:
    """The solver of a model that was distilled to make pictures in a few steps; None of any other model.

    Its scheduler's config is all that tells. Consistency models are stored with LCMScheduler. Turbo and Lightning
    models are stored with Euler steps from the very last timestep on ("trailing"), as are models of zero terminal
    signal-to-noise ratio, which say so (`rescale_betas_zero_snr`).

    Example:
        >>> few_step_solver({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}).__name__
        'EulerDiscreteScheduler'
    """
    name = stored.get("_class_name", "")
    if name == LCMScheduler.__name__:
        return LCMScheduler
    is_turbo = stored.get("timestep_spacing") == "trailing" and not stored.get("rescale_betas_zero_snr")
    return TURBO_SOLVERS.get(name) if is_turbo else None


@dataclass(frozen=True, eq=False)
class Denoiser(ABC):
    """What every kind can be asked, and what most of them answer.

    Attributes:
        net: the network, of the kind's class in diffusers.
        title: what people call the kind.
        is_flow: it predicts velocities on straight paths from picture to noise, x_s = (1 - s) x_0 + s noise, and is
            sampled by flow matching's Euler steps; else it predicts noise or v on a diffusion's path.
        reads_projected: its cross-attention reads keys and values that depend on the text alone.
    """

    net: DenoiserNet
    title: ClassVar[str]
    is_flow: ClassVar[bool] = False
    reads_projected: ClassVar[bool] = True

    @property
    def num_inference_steps(self) -> int:
        """To sample with where a person does not say."""
        return 25

    @property
    @abstractmethod
    def guidance_scale(self) -> float:
        """To sample with where a person does not say."""

    @property
    def guides_itself(self) -> bool:
        """It reads the guidance scale beside the text and predicts what guidance of that scale would have made."""
        return False

    @property
    def device(self) -> torch.device:
        return self.net.device

    @property
    def dtype(self) -> torch.dtype:
        return self.net.dtype

    @property
    def patch(self) -> int:
        """Latent pixels along a side that it takes together; sizes are multiples of it."""
        return 1

    @property
    def in_channels(self) -> int:
        """C of the latents that it reads."""
        return self.net.config.in_channels

    @property
    def out_channels(self) -> int:
        """C of what it predicts, perhaps with a variance behind it."""
        return self.net.config.out_channels

    @property
    def pooled_width(self) -> int:
        """P of the pooled embedding that it reads beside the tokens; 0 where it reads none."""
        return 0

    @property
    def text_width(self) -> int:
        """D of the tokens that it reads."""
        return self.net.config.cross_attention_dim

    def solver(self, stored: Mapping[str, Any]) -> type[SchedulerMixin]:
        """What samples unless another is asked for: that of a few steps, the stored one if in `SOLVERS`, else
        DPM-Solver++."""
        return few_step_solver(stored) or SOLVERS.get(stored.get("_class_name", ""), DPMSolverMultistepScheduler)

    def set_timesteps(self, scheduler: SchedulerMixin, num_steps: int, latent_size: tuple[int, int]) -> list[float]:
        """Plans the steps of a run for latents of (h, w).

        Returns:
            By step, where it starts: the cumulative alpha; of flow matching, the share of noise s.
        """
        scheduler.set_timesteps(num_steps)
        alphas = scheduler.alphas_cumprod.tolist()
        return [alphas[int(t)] for t in scheduler.timesteps.tolist()]

    def vae_dtype(self, config: Mapping[str, Any], dtype: torch.dtype) -> torch.dtype:
        """The precision of a VAE of that config beside a denoiser of that precision."""
        return dtype

    def conditions(
        self, rows: int, pooled: Tensor | None, size: tuple[int, int], scales: Tensor | None = None
    ) -> dict[str, Any]:
        """What a call takes beside latents, timestep and text: the same at every step.

        Args:
            rows: of the call.
            pooled: (rows, P), or None where P is 0.
            size: (H, W) of the images.
            scales: (rows,) guidance scales where it guides itself.
        """
        return {}

    @abstractmethod
    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditions: Mapping[str, Any],
        *,
        text_kv: Sequence[KVGroup] | None = None,
        prompt_embeds: Tensor | None = None,
    ) -> Tensor:
        """(rows, C, h, w) latents as the scheduler scaled them -> (rows, C, h, w) predictions.

        Args:
            timestep: of all rows, a tensor without dimensions; or (rows,).
            conditions: as `conditions` returns them.
            text_kv: the rows' keys and values, for a network with `livo.diffusion.attention.install`'s processors; or
            prompt_embeds: (rows, L, D) tokens, which the network projects itself.
        """

    @abstractmethod
    def row_bytes(self, height: int, width: int) -> int:
        """Estimated activation memory of one row of a call, for latents of height x width."""
