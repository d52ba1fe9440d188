"""Safe latent diffusion (SLD): the clean counterpart of a toxic picture, for preference pairs.

A plan on the same seeds as the toxic images, sampled with the same solver, gives images that differ from them in what
the safety concept names. It does not always clean: the judge has the last word on what is paired.

Source:
    Schramowski et al. 2023 (arXiv 2211.05105), as diffusers' StableDiffusionPipelineSafe computes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from livo.diffusion.engine import ClassifierFreeGuidance, Engine, guides
from livo.types import Plan, SamplingOptions, Step

SAFETY_CONCEPTS = {"nudity": "a naked person", "bloody": "a bloody person covered in blood", "zombie": "a zombie"}
"""What is steered away from, by the id of the principle it serves; words that the drawn world knows too."""


@dataclass(frozen=True)
class Preset:
    """Hyper-parameters of SLD.

    Attributes:
        warmup: delta, first step index at which it acts.
        scale: s_S, above 1.
        threshold: lambda, what c - s must stay below to be steered.
        momentum_scale: s_m.
        momentum_beta: beta_m in [0, 1).

    Raises:
        ValueError: a scale of 1 or less, at which diffusers' pipeline would leave its safety out without a word.
    """

    warmup: int
    scale: float
    threshold: float
    momentum_scale: float
    momentum_beta: float

    def __post_init__(self) -> None:
        if self.scale <= 1:
            raise ValueError(f"a safety scale of {self.scale} steers nothing; give more than 1")

    def rescaled(self, num_inference_steps: int) -> Preset:
        """With the warm-up that is the same share of so many steps as the published one is of 50.

        Example:
            >>> MEDIUM.rescaled(25).warmup
            5
        """
        return replace(self, warmup=math.floor(self.warmup * num_inference_steps / 50 + 0.5))


WEAK = Preset(15, 20.0, 0.0, 0.0, 0.0)
"""Scale 20 is diffusers' own; the paper has 200."""
MEDIUM = Preset(10, 1000.0, 0.01, 0.3, 0.4)
STRONG = Preset(7, 2000.0, 0.025, 0.5, 0.7)
MAX = Preset(0, 5000.0, 1.0, 0.5, 0.7)


@dataclass(frozen=True)
class SafeLatentGuidance:
    """Classifier-free guidance away from a safety concept s, elementwise where the prompt comes close to it.

        mu    = min(1, s_S |c - s|) where c - s < lambda, else 0
        gamma = mu (s - u) + s_m nu,   then   nu <- beta nu + (1 - beta) gamma,   nu = 0 at first
        eps   = u + s_g ((c - u) - gamma);   up to the warm-up without gamma, bit for bit `ClassifierFreeGuidance`

    The comparison is signed, and momentum gathers in the warm-up too. The paper prints max(1, .) for min(1, .).

    Attributes:
        scale: s_g. At 1 and below nothing is guided, safety included, as in diffusers' pipeline.
        preset: the rest.
    """

    scale: float
    preset: Preset

    def __call__(self, noise_preds: Mapping[str, Tensor], step: Step) -> Tensor:
        """(n, C, h, w) predictions of "uncond", "cond" and "safety" -> (n, C, h, w)."""
        if not guides(self.scale):
            return noise_preds["cond"]
        p = self.preset
        uncond, cond, safety = (noise_preds[branch] for branch in ("uncond", "cond", "safety"))
        difference = cond - safety
        strength = torch.where(difference < p.threshold, (p.scale * difference.abs()).clamp(max=1), 0)
        momentum = step.memory.get("momentum", torch.zeros_like(uncond))
        gamma = strength * (safety - uncond) + p.momentum_scale * momentum
        step.memory["momentum"] = p.momentum_beta * momentum + (1 - p.momentum_beta) * gamma
        if step.index < p.warmup:
            return ClassifierFreeGuidance(self.scale)(noise_preds, step)
        return uncond + self.scale * (cond - uncond - gamma)


def safe_plan(engine: Engine, prompt: str, safety_concept: str, options: SamplingOptions, preset: Preset = MAX) -> Plan:
    """The clean counterpart of Stable Diffusion's plan for the same prompt and options.

    Args:
        engine: encodes the texts.
        safety_concept: what to steer away from, such as those of `SAFETY_CONCEPTS`.
        options: the toxic images' own; their guidance scale is above 1.
        preset: MAX, the one that cleaned all three kinds in the drawn world. Warm-ups of the others count steps: give
            `preset.rescaled(options.num_inference_steps)` where those are not 50.

    Raises:
        ValueError: a guidance scale of 1 or less, which would clean nothing.
    """
    if not guides(options.guidance_scale):
        raise ValueError(f"safe latent diffusion wants a guidance scale above 1; got {options.guidance_scale}")
    texts = {"cond": prompt, "uncond": options.negative_prompt, "safety": safety_concept}
    branches = {branch: (engine.condition(text),) for branch, text in texts.items()}
    return Plan(branches, SafeLatentGuidance(float(options.guidance_scale), preset), options)
