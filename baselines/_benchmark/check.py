"""`python -m livo benchmark --check`: one batch and five diffusers pipelines give the same latents, at any size.

In float32, where only the order of additions differs; 2 steps at 256 pixels unless something else is asked for. For
`--backbone sd15` that takes about 12 GB and some minutes on a CPU, so it is a command and not a test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from baselines import available
from baselines._benchmark.sides import METHODS, FivePipelines, Setup
from livo.types import InputError

TOLERANCE = 1e-3
"""Of the largest latent: the largest difference that is taken for rounding."""
STEPS, SIZE = 2, 256
PROMPT = "a photo of a doctor"


def check(setup: Setup, images: int, *, as_json: bool = False) -> str:
    """By method, the difference between both sides' latents, as a table or as JSON.

    Raises:
        InputError: a method is further off than the tolerance.
    """
    setup = replace(setup, dtype=setup.dtype or "float32", steps=setup.steps or STEPS)
    backbone = setup.load()
    size = setup.size or min(SIZE, backbone.defaults.height)
    options = replace(setup.options(backbone, images), height=size, width=size)
    batch = setup.one_batch(backbone)
    ours = {name: latents.cpu() for name, latents in batch.engine.sample(batch.plans(PROMPT, options)).items()}
    backbone.unet.set_attn_processor(AttnProcessor2_0())  # diffusers' own again, for the other side
    theirs = FivePipelines(backbone, "weights", latents=True)(PROMPT, options)
    difference = {name: relative(ours[name], theirs[name]) for name in METHODS}
    effect = {name: relative(theirs[name], theirs["stable_diffusion"]) for name in METHODS}
    if off := [name for name, value in difference.items() if not value <= TOLERANCE]:
        raise InputError(
            f"{available()[off[0]].TITLE} is {difference[off[0]]:.2g} off, more than {TOLERANCE:g} of its largest "
            f"latent: {table(difference, effect)}"
        )
    if as_json:
        payload = {
            "backbone": setup.backbone,
            "steps": options.num_inference_steps,
            "size": size,
            "dtype": str(backbone.dtype),
            "images": images,
        }
        return json.dumps({**payload, "tolerance": TOLERANCE, "difference": difference, "effect": effect}, indent=2)
    dtype = str(backbone.dtype).removeprefix("torch.")
    setting = (
        f"{setup.backbone}, {size} x {size}, {options.num_inference_steps} steps, {dtype}, {images} images a method"
    )
    head = f"One batch against five diffusers pipelines, finished latents, {setting}; all within {TOLERANCE:g}."
    return f"{head}\n\n{table(difference, effect)}"


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest latent; two (N, C, h, w) tensors."""
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def table(difference: Mapping[str, float], effect: Mapping[str, float]) -> str:
    """A line a method: how far both sides are apart, and how far the method is from Stable Diffusion."""
    width = max(len(available()[name].TITLE) for name in difference)
    return "\n".join(
        f"{available()[name].TITLE.ljust(width)}  {difference[name]:.1e}  (from Stable Diffusion {effect[name]:.1e})"
        for name in difference
    )
