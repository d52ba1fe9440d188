"""How samples are made; no torch here, so that a command line can show it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from livo.types import InputError, SamplingOptions


@dataclass(frozen=True)
class SampleSettings:
    """How samples are made; the paper's numbers are the defaults.

    Attributes:
        seed: of the whole data set; an image's own seed follows from it, its prompt and its number.
        unspecified_images: of a social prompt, to see which classes the model prefers; they are not kept.
        cell_images: of every combination of attributes: 5 races x 2 genders x 20 = 200.
        toxic_images: of a toxic prompt, and as many counterparts.
        trust_prompts: label an image by what its prompt names, as the paper does, and not only where the judge agrees.
        num_inference_steps, guidance_scale, height, width: the sampler's.
    """

    num_inference_steps: int
    guidance_scale: float
    height: int
    width: int
    seed: int = 0
    unspecified_images: int = 24
    cell_images: int = 20
    toxic_images: int = 30
    trust_prompts: bool = False

    def __post_init__(self) -> None:
        if min(self.unspecified_images, self.cell_images, self.toxic_images) < 1:
            raise InputError("a prompt needs images: give 1 or more unspecified, cell and toxic images")
        self.options("", 1)
        if self.guidance_scale <= 1:
            raise InputError(f"a guidance scale of {self.guidance_scale} makes no clean counterparts: give more than 1")

    def options(self, prompt: str, count: int) -> SamplingOptions:
        """What to sample `count` images of a prompt with."""
        seeds = [hashlib.sha256(f"{self.seed}\0{prompt}\0{i}".encode()).digest()[:4] for i in range(count)]
        return SamplingOptions(
            tuple(int.from_bytes(s, "big") for s in seeds), self.num_inference_steps, self.guidance_scale, self.height,
            self.width,
        )  # fmt: skip


HELP = {
    "seed": "of the whole data set",
    "unspecified_images": "to see the model's own bias",
    "cell_images": "of each combination of attributes",
    "toxic_images": "of a toxic prompt",
    "trust_prompts": "label by the prompt, as the paper does, unjudged",
    "num_inference_steps": "(the backbone's own)",
    "guidance_scale": "(the backbone's own)",
}
"""What each flag of a build is for."""
