"""Stable Diffusion as it is: what every method is compared with. It takes no principle."""

from __future__ import annotations

from livo.diffusion.engine import Engine, classifier_free_plan
from livo.types import Plan, Principle, SamplingOptions

TITLE = "Stable Diffusion"
PAPER = "arXiv:2112.10752"
RISKS = ("bias", "toxicity")
PHRASE = "the base model"


class StableDiffusion:
    """The prompt against the empty prompt under classifier-free guidance, whatever the principle."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan:
        """The plan of StableDiffusionPipeline: 77 tokens in both branches."""
        return classifier_free_plan(self.engine, [self.engine.condition(prompt)], options)


def load(engine: Engine) -> StableDiffusion:
    """Needs nothing but the backbone."""
    return StableDiffusion(engine)
