"""LiVO: a value token, made from the principle and the prompt, is read before the prompt.

Source:
    Wang et al. 2024 (arXiv 2410.12700), Sec. 3.2. The prompt's 77 tokens stay padded, in training as here (the
    official release pads in training and not in sampling), and only the conditional branch carries the value, so
    switching it changes nothing else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch

from livo.engine import Engine, classifier_free_plan
from livo.types import Artefact, Conditioning, Plan, Principle, SamplingOptions
from livo.value_encoder import TRAIN, ValueEncoder, ValueEncoderError, load_value_encoder

TITLE = "LiVO"
PAPER = "arXiv:2410.12700"
RISKS = ("bias", "toxicity")


def take_value(seeds: Sequence[int], mixing_rate: float) -> tuple[bool, ...]:
    """Which images take the value: a fixed share, those whose seeds hash lowest.

    Exactly mixing_rate * N images, halves rounded up. A quota and no coin per image, because N coins would add their
    own noise to the very ratio that is measured; a hash, because seeds are often 0..N-1 and must not be split into a
    first and a second half. The choice depends on the set of seeds, not on their order.

    Example:
        >>> take_value([0, 1, 2, 3], 0.5)
        (True, False, False, True)
    """
    quota = math.floor(mixing_rate * len(seeds) + 0.5)
    ranks = sorted(range(len(seeds)), key=lambda i: hashlib.sha256(str(seeds[i]).encode()).digest())
    chosen = set(ranks[:quota])
    return tuple(i in chosen for i in range(len(seeds)))


class LiVO:
    """The method.

    Args:
        engine: encodes prompts.
        value_encoder: E^v, trained for the engine's backbone.
        mixing_rate: share of the images that take the value where the principle guards against bias, in [0, 1].
            Against toxicity all do.

    Raises:
        ValueError: the rate is outside [0, 1].
    """

    def __init__(self, engine: Engine, value_encoder: ValueEncoder, mixing_rate: float = 0.5) -> None:
        if not 0 <= mixing_rate <= 1:
            raise ValueError(f"a mixing rate is a share in [0, 1]; got {mixing_rate}")
        self.engine = engine
        self.value_encoder = value_encoder
        self.mixing_rate = mixing_rate

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan:
        """Stable Diffusion's plan, with a 78th token at position 0 for the images that take the value."""
        prompt_embeds = self.engine.encode_prompt(prompt)
        plain = Conditioning(prompt_embeds)
        if principle is None:
            return classifier_free_plan(self.engine, [plain], options)
        value_embeds = self.value_encoder.encode(principle.text, prompt).to(prompt_embeds)
        valued = Conditioning(torch.cat([value_embeds[None], prompt_embeds]))
        taken = take_value(options.seeds, self.mixing_rate if principle.risk == "bias" else 1.0)
        return classifier_free_plan(
            self.engine,
            [valued if take else plain for take in taken],
            options,
            notes=tuple("value" if take else "no value" for take in taken),
        )

    def artefact(self, principle: Principle | None) -> Artefact | None:
        """The value encoder, whatever the principle: one serves them all. None without a principle."""
        return None if principle is None else self.value_encoder.artefact


def load(engine: Engine, name: str = "value_encoder", train: str = TRAIN) -> LiVO:
    """LiVO with a value encoder that lies in the backbone's folder.

    Args:
        engine: encodes prompts.
        name: the encoder's folder in the backbone's; other losses leave theirs under other names.
        train: the command that makes it, for the error messages.

    Raises:
        ValueEncoderError: there is none, or it does not fit; the message says how to make one.
    """
    backbone = engine.backbone
    if backbone.folder is None:
        raise ValueEncoderError(
            f"backbone {backbone.name} comes from the hub, without a value encoder: download it to a folder and put "
            f"one under {name}/; `{train} --backbone FOLDER` trains one"
        )
    return LiVO(engine, load_value_encoder(backbone.folder / name, backbone, train))
