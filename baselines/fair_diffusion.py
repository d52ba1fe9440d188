"""Fair Diffusion: semantic guidance (SEGA) pushes an equal share of the images toward each value of an attribute.

It looks at no image: which image goes where is a quota over the seeds, as in the authors' code, which draws exactly
half of each direction. Nothing is trained; an image costs 2 + E rows a step, E = 2.

On Stable Diffusion 3 the formula is the same, on velocities: v = (noise - x_s) / (1 - s) is affine in the noise, with a
factor that all branches share, so the guided prediction and the places above the threshold are those of the noise. Only
momentum, which adds up over steps, weighs them by 1 - s otherwise. Flux "dev" was distilled from guided predictions and
has no unconditional one to measure edits against: there it does not apply.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from livo.diffusion.engine import ClassifierFreeGuidance, Engine, classifier_free_plan, guides
from livo.miniature.world import load_world
from livo.types import Lacking, Plan, Principle, SamplingOptions, Step

TITLE = "Fair Diffusion"
PAPER = "arXiv:2302.10893"
RISKS = ("bias",)
PHRASE = "guidance"


@dataclass(frozen=True)
class Concept:
    """One edit of semantic guidance: toward the text of a branch, or away from it.

    Attributes:
        branch: whose noise prediction e_k is compared with the unconditional one.
        scale: s_k; not multiplied by the guidance scale.
        threshold: lambda_k in [0, 1]: the share of each latent channel, the weakest first, that is left alone.
        warmup: first step index at which it acts.
        cooldown: first step index at which it no longer does; None is never.
        weight: w_k among the concepts.
        reverse: away from the text.
    """

    branch: str
    scale: float
    threshold: float
    warmup: int
    cooldown: int | None = None
    weight: float = 1.0
    reverse: bool = False

    def shift(self, noise_pred: Tensor, uncond: Tensor) -> Tensor:
        """g_k: s_k (e_k - u), negated if reversed, where it is large; 0 elsewhere. (n, C, h, w), all three."""
        difference = (-self.scale if self.reverse else self.scale) * (noise_pred - uncond)
        size = difference.abs()
        # torch.quantile takes no half precision.
        flat = size.flatten(2).to(torch.promote_types(size.dtype, torch.float32))
        bound = flat.quantile(self.threshold, dim=2)[..., None, None]
        return torch.where(size >= bound, difference, 0)


@dataclass(frozen=True)
class SemanticGuidance:
    """Classifier-free guidance plus sparse pushes of several concepts (SEGA).

    With g_k of `Concept.shift`, 0 with weight 0 from its cooldown on, at every step from the first:

        T = sum_k max(w_k, 0) g_k + s_m nu,   then   nu <- beta nu + (1 - beta) T,   nu = 0 at first

    - no concept past its warm-up: u + s_g (c - u), bit for bit `ClassifierFreeGuidance`;
    - some: plus sum_k (w_k / sum w) g_k over those, without momentum. Weights that add up to 0, which they do where
      all of those have cooled down, would be 0/0 and make every later latent NaN: then nothing is added;
    - all: plus T.

    Attributes:
        scale: s_g. At 1 and below nothing is guided, edits included, as in diffusers' pipeline.
        concepts: E of them.
        momentum_scale: s_m.
        momentum_beta: beta in [0, 1).

    Source:
        Brack et al. 2023 (arXiv 2301.12247), as its pipeline computes it: the paper's percentile is taken per image
        and per latent channel.
    """

    scale: float
    concepts: tuple[Concept, ...]
    momentum_scale: float
    momentum_beta: float

    def __call__(self, noise_preds: Mapping[str, Tensor], step: Step) -> Tensor:
        """(n, C, h, w) predictions of "uncond", "cond" and every concept's branch -> (n, C, h, w)."""
        guided = ClassifierFreeGuidance(self.scale)(noise_preds, step)
        if not guides(self.scale):
            return guided
        uncond = noise_preds["uncond"]
        pushes: list[tuple[Concept, float, Tensor]] = []
        for concept in self.concepts:
            if concept.cooldown is not None and step.index >= concept.cooldown:
                pushes.append((concept, 0.0, torch.zeros_like(uncond)))
            else:
                pushes.append((concept, concept.weight, concept.shift(noise_preds[concept.branch], uncond)))

        momentum = step.memory.get("momentum", torch.zeros_like(uncond))
        total = sum(max(weight, 0.0) * shift for _, weight, shift in pushes) + self.momentum_scale * momentum
        step.memory["momentum"] = self.momentum_beta * momentum + (1 - self.momentum_beta) * total

        active = [(weight, shift) for concept, weight, shift in pushes if step.index >= concept.warmup]
        if len(active) == len(pushes):
            return guided + total
        share = sum(weight for weight, _ in active)
        if share == 0:
            return guided
        return guided + sum(weight / share * shift for weight, shift in active)


def deal_classes(seeds: Sequence[int], num_classes: int) -> tuple[int, ...]:
    """Which of K classes each image is pushed toward: an exact quota, dealt in the order of the seeds' hashes.

    Every class gets N / K images, rounded down or up. Who is dealt first is hashed too, so that what is left over
    does not always go to class 0. The result depends on the set of seeds, not on their order.

    Example:
        >>> deal_classes([0, 1, 2, 3], 2)
        (1, 0, 1, 0)
    """
    digests = [hashlib.sha256(str(seed).encode()).digest() for seed in seeds]
    first = int.from_bytes(hashlib.sha256(b"".join(sorted(digests))).digest()) % num_classes
    ranks = sorted(range(len(seeds)), key=digests.__getitem__)
    classes = {i: (first + rank) % num_classes for rank, i in enumerate(ranks)}
    return tuple(classes[i] for i in range(len(seeds)))


@dataclass(frozen=True)
class FairDiffusionSettings:
    """Constants of the authors' script, for any backbone, sampler and guidance scale.

    The edit scale is an absolute one, as in the formula: on the drawn world at guidance 2 it works as it is, and taken
    in proportion to the guidance scale (4 of 7) it turned hardly any image. The warm-up is a share of the steps, the
    script's 5 of 50: 1 of 12, 3 of 25.
    """

    scale: float = 4.0
    threshold: float = 0.95
    warmup_share: float = 0.1
    momentum_scale: float = 0.5
    momentum_beta: float = 0.6


class FairDiffusion:
    """The method.

    The target's class is enhanced. With two classes the other one is suppressed, as in the authors' code. With more,
    which upstream has not, "person" is: what the model draws unasked is its majority, so no image need be judged for
    it. In the drawn world that kept more occupations than suppressing a fixed class, or all others by a quarter each,
    at E = 2 instead of 5.
    """

    def __init__(self, engine: Engine, settings: FairDiffusionSettings = FairDiffusionSettings()) -> None:
        self.engine = engine
        self.settings = settings

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan:
        """Stable Diffusion's plan with the branches "suppress" and "enhance", one text per image in each.

        Where guidance does not act, at a scale of 1 or below, it is Stable Diffusion's own, and the notes say so.

        Raises:
            ValueError: the principle does not guard against bias.
        """
        cond = (self.engine.condition(prompt),)
        if principle is None:
            return classifier_free_plan(self.engine, cond, options)
        if principle.risk not in RISKS:
            raise ValueError(f"Fair Diffusion acts on bias only; {principle.id!r} guards against {principle.risk}")
        if not guides(options.guidance_scale):
            notes = (f"no direction: edits act above a guidance scale of 1, not at {options.guidance_scale:g}",)
            return classifier_free_plan(self.engine, cond, options, notes=notes * len(options.seeds))
        texts = self._edits(principle)
        names = list(texts)
        targets = [names[k] for k in deal_classes(options.seeds, len(names))]
        away = {name: texts[names[1 - k]] if len(names) == 2 else "person" for k, name in enumerate(names)}
        branches = {
            "cond": cond,
            "uncond": (self.engine.condition(options.negative_prompt),),
            "suppress": tuple(self.engine.condition(away[name]) for name in targets),
            "enhance": tuple(self.engine.condition(texts[name]) for name in targets),
        }
        return Plan(branches, self._guide(options), options, notes=tuple(f"toward {name}" for name in targets))

    def _guide(self, options: SamplingOptions) -> SemanticGuidance:
        s = self.settings
        warmup = math.floor(s.warmup_share * options.num_inference_steps + 0.5)
        suppress = Concept("suppress", s.scale, s.threshold, warmup, reverse=True)
        enhance = Concept("enhance", s.scale, s.threshold, warmup)
        return SemanticGuidance(float(options.guidance_scale), (suppress, enhance), s.momentum_scale, s.momentum_beta)

    def texts(self, principle: Principle | None, options: SamplingOptions) -> tuple[str, ...]:
        """What the branches "suppress" and "enhance" read."""
        if principle is None or principle.risk not in RISKS or not guides(options.guidance_scale):
            return ()
        edits = tuple(self._edits(principle).values())
        return edits if len(edits) == 2 else ("person", *edits)

    def _edits(self, principle: Principle) -> dict[str, str]:
        """Edit prompt by what a note calls it, such as "male person" by "male"."""
        if principle.id == "racial_equality" and not any(map(self.engine.backbone.text.knows, principle.classes)):
            # The drawn world knows no races, and is judged by skin tone: its words name the same attribute there.
            return {f"{tone} skin": f"person with {tone} skin" for tone in load_world().tones}
        return {name: f"{name} person" for name in principle.classes}


def load(engine: Engine) -> FairDiffusion:
    """Needs nothing but the backbone.

    Raises:
        Lacking: it predicts nothing without a text.
    """
    if engine.denoiser.guides_itself:
        raise Lacking(
            f"does not apply to {engine.backbone.kind} with guidance distilled into it: its edits are measured against "
            "an unconditional prediction, which there is not; give a model that is guided, as Stable Diffusion 3.5 is"
        )
    return FairDiffusion(engine)
