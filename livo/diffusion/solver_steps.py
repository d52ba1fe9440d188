"""One step of the sampler: the denoiser's calls, and what guides and solver make of their predictions."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from diffusers import SchedulerMixin
from torch import Generator, Tensor

from livo.diffusion.batch import Call, GuideGroup
from livo.diffusion.captured import CapturedCalls
from livo.diffusion.latents import estimate_x0
from livo.types import Step


@torch.inference_mode()
def predict(
    scheduler: SchedulerMixin,
    timestep: Tensor,
    on_device: Tensor,
    latents: Tensor,
    calls: Sequence[Call],
    captured: CapturedCalls | None = None,
) -> Tensor | None:
    """(rows, C, h, w) noise predictions of all calls, or None where the device's memory does not hold one of them.

    None, because an exception on its way would hold on to what the call had allocated.
    """
    model_input = _scaled(scheduler, latents, timestep)
    predictions = []
    for call in calls:
        try:
            predictions.append(call(model_input, on_device, captured))
        except torch.OutOfMemoryError:
            return None
    return torch.cat(predictions)


@torch.inference_mode()
def solver_step(
    scheduler: SchedulerMixin,
    timestep: Tensor,
    level: float,
    latents: Tensor,
    rows: Tensor,
    groups: Sequence[GuideGroup],
    steps: Sequence[Step],
    generators: list[Generator],
) -> tuple[Tensor, Tensor]:
    """(J, C, h, w) latents, (rows, C, h, w) predictions -> latents at the next timestep, and the x0 estimate."""
    model_input = _scaled(scheduler, latents, timestep)
    noise_pred = torch.empty_like(latents)
    for group, step in zip(groups, steps, strict=True):
        combined = group.guide({branch: rows[index] for branch, index in group.rows.items()}, step)
        if combined.shape != (wanted := (len(group.index), *latents.shape[1:])):
            raise ValueError(f"{group.guide} returned shape {tuple(combined.shape)}; wanted {tuple(wanted)}")
        noise_pred[group.index] = combined
    x0 = estimate_x0(model_input, noise_pred, level, scheduler.config.get("prediction_type", "flow"))
    draws = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": generators} if draws else {}
    return scheduler.step(noise_pred, timestep, latents, return_dict=False, **extra)[0], x0


def _scaled(scheduler: SchedulerMixin, latents: Tensor, timestep: Tensor) -> Tensor:
    """(J, C, h, w) as the denoiser reads them; flow matching scales nothing."""
    scale = getattr(scheduler, "scale_model_input", None)
    return latents if scale is None else scale(latents, timestep)
