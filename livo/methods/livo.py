"""LiVO: a value token, made from the principle and the prompt, is read before the prompt.

Source:
    Wang et al. 2024 (arXiv 2410.12700), Sec. 3.2. The prompt's 77 tokens stay padded, in training as here (the
    official release pads in training and not in sampling: `official=True`), and only the conditional branch carries
    the value, so switching it changes nothing else. The paper's model is Stable Diffusion 1.5; on SDXL and PixArt the
    token comes before theirs in the same way, and SDXL's pooled embedding stays the prompt's own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from livo.diffusion.backbones import only_stable_diffusion
from livo.diffusion.engine import Engine, classifier_free_plan
from livo.methods.value_encoder import TRAIN, TextValueEncoder, ValueEncoder, find_value_encoder, load_value_encoder
from livo.types import Artefact, Conditioning, Plan, Principle, SamplingOptions

TITLE = "LiVO"
PAPER = "arXiv:2410.12700"
RISKS = ("bias", "toxicity")
PHRASE = "one value token"


def fair_mixing_rate(counts: Sequence[int]) -> float:
    """The share of images that must take the value so that the majority class comes out even: 1 - 1 / (K m).

    The paper mixes half and half, which is right only where the unsteered model draws the majority alone (m = 1), and
    makes balanced prompts unbalanced. With m the majority's share and a value that always leads away from it, a
    share r of steered images leaves (1 - r) m of that class; this r makes it 1/K. For K = 2 it is 1 - 0.5 / m.

    Args:
        counts: images per class, K >= 2 of them, that the unsteered model drew for this prompt or for others of its
            family, such as the same occupation under other seeds.

    Returns:
        A rate in [0, 1 - 1/K].

    Raises:
        ValueError: no image was counted, or there are fewer than two classes.

    Example:
        >>> fair_mixing_rate([40, 0]), fair_mixing_rate([20, 20]), round(fair_mixing_rate([30, 10]), 3)
        (0.5, 0.0, 0.333)
    """
    if len(counts) < 2 or not sum(counts):
        raise ValueError(f"a mixing rate is estimated from images of two classes or more; got counts {list(counts)}")
    return 1 - sum(counts) / (len(counts) * max(counts))


def take_value(seeds: Sequence[int], mixing_rate: float, salt: str = "") -> tuple[bool, ...]:
    """Which images take the value: a fixed share, those whose seeds hash lowest.

    Exactly mixing_rate * N images, halves rounded up. A quota and no coin per image, because N coins would add their
    own noise to the very ratio that is measured; a hash, because seeds are often 0..N-1 and must not be split into a
    first and a second half. The choice depends on the set of seeds, not on their order.

    Args:
        salt: another one makes an independent choice, as several principles on the same images want.

    Example:
        >>> take_value([0, 1, 2, 3], 0.5)
        (True, False, False, True)
    """
    quota = math.floor(mixing_rate * len(seeds) + 0.5)
    ranks = sorted(range(len(seeds)), key=lambda i: hashlib.sha256(f"{salt}{seeds[i]}".encode()).digest())
    chosen = set(ranks[:quota])
    return tuple(i in chosen for i in range(len(seeds)))


class LiVO:
    """The method.

    Args:
        engine: encodes prompts.
        value_encoder: E^v, trained for the engine's backbone.
        mixing_rate: share of the images that take the value where the principle guards against bias, in [0, 1].
            Against toxicity all do.
        official: images with a value read the prompt as the official release samples: unpadded, cut to 76 tokens, and
            the empty prompt cut to as many tokens as value and prompt are together.

    Raises:
        ValueError: the rate is outside [0, 1].
        BackboneError: `official` on another backbone than Stable Diffusion.
    """

    def __init__(
        self,
        engine: Engine,
        value_encoder: ValueEncoder | TextValueEncoder,
        mixing_rate: float = 0.5,
        official: bool = False,
    ) -> None:
        if not 0 <= mixing_rate <= 1:
            raise ValueError(f"a mixing rate is a share in [0, 1]; got {mixing_rate}")
        if official:
            only_stable_diffusion(engine.backbone, "the official release's sampling")
        self.engine = engine
        self.value_encoder = value_encoder
        self.mixing_rate = mixing_rate
        self.official = official

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan:
        """Stable Diffusion's plan, with one token more, at position 0, for the images that take the value."""
        return self.plan_for(prompt, () if principle is None else (principle,), options)

    def plan_for(self, prompt: str, principles: Sequence[Principle], options: SamplingOptions) -> Plan:
        """As `plan` under several principles at once: a value token for each, in their order, before the prompt.

        Each principle against bias has its own share of the images, chosen independently of the others'. This goes
        beyond the paper, whose retriever picks one principle.
        """
        plain = self.engine.condition(prompt)
        prompt_embeds = plain.prompt_embeds
        if not principles:
            return classifier_free_plan(self.engine, [plain], options)
        tokens = [self.value_encoder.encode(p.text, prompt).to(prompt_embeds)[None] for p in principles]
        taken = [
            take_value(options.seeds, self.mixing_rate if p.risk == "bias" else 1.0, salt=p.id if i else "")
            for i, p in enumerate(principles)
        ]
        by_image = list(zip(*taken, strict=True))
        valued = {}
        for takes in set(by_image):
            values = [token for token, take in zip(tokens, takes, strict=True) if take]
            read = self._unpadded(prompt, len(values)) if self.official and values else prompt_embeds
            valued[takes] = replace(plain, prompt_embeds=torch.cat([*values, read]))
        notes = ["value" if any(takes) else "no value" for takes in by_image]
        if len(principles) > 1:
            names = [[p.id for p, take in zip(principles, takes, strict=True) if take] for takes in by_image]
            notes = [" + ".join(found) or "no value" for found in names]
        conds, uncond = [valued[takes] for takes in by_image], None
        if self.official:  # causal: the first tokens of a padded prompt are those of a shorter one
            negative = self.engine.encode_prompt(options.negative_prompt)
            uncond = [Conditioning(negative[: len(cond.prompt_embeds)]) for cond in conds]
        return classifier_free_plan(self.engine, conds, options, uncond=uncond, notes=tuple(notes))

    def _unpadded(self, prompt: str, values: int) -> Tensor:
        """(n, D) embeddings of the prompt alone, cut so that it and `values` value tokens are 77 at the most."""
        backbone = self.engine.backbone
        ids = backbone.tokenizer(
            prompt, max_length=backbone.max_length - values, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            return backbone.text_encoder(ids.to(backbone.device))[0][0]

    def at_rate(self, mixing_rate: float) -> LiVO:
        """The same method with another share of images that take the value; 1 gives it to all, for evaluation."""
        return LiVO(self.engine, self.value_encoder, mixing_rate, self.official)

    def artefact(self, principle: Principle | None) -> Artefact | None:
        """The value encoder, whatever the principle: one serves them all. None without a principle."""
        return None if principle is None else self.value_encoder.artefact


def load(
    engine: Engine,
    name: str = "value_encoder",
    train: str = TRAIN,
    *,
    source: str | None = None,
    official: bool = False,
) -> LiVO:
    """LiVO with a value encoder that lies in the backbone's folder, or elsewhere.

    Args:
        engine: encodes prompts.
        name: the encoder's folder in the backbone's; other losses leave theirs under other names.
        train: the command that makes it, for the error messages.
        source: another folder or a hub id to take the encoder from, such as one of `value_encoder.PUBLISHED`.
        official: as in `LiVO`.

    Raises:
        ValueEncoderError: there is none, or it does not fit; the message says how to make one.
    """
    backbone = engine.backbone
    folder = backbone.folder / name if source is None else find_value_encoder(source)
    return LiVO(engine, load_value_encoder(folder, backbone, train), official=official)
