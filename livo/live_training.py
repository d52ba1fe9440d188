"""A training that somebody watches: what is asked, what is reported, and which choices there are. No torch here.

The page asks and shows, `train.interactive` trains; both know this file alone. `app.py` brings them together.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from livo.evaluation.results import ATTRIBUTE
from livo.types import InputError

SHARES = "shares.json"
"""In a backbone's folder: how it draws each concept without a value, as `train.preference.drawn_pairs` measures it."""
PRINCIPLES = tuple(ATTRIBUTE)
"""Those against bias. The ones against toxicity are not taught live: classes use this page."""
DEFAULT_CONCEPTS = ("surgeon", "scientist", "chef", "lumberjack", "cashier", "barista", "dressmaker", "singer")
"""Four occupations of either side, which the miniature draws one way nine times in ten or more."""
FEWEST_STEPS, MOST_STEPS, DEFAULT_STEPS = 10, 600, 100
MOST_CONCEPTS = 12
MOST_GAMMA = 20.0


@dataclass(frozen=True)
class LossChoice:
    """A loss as it is offered.

    Attributes:
        explained: one sentence.
        margins: whether it has gamma_1 and gamma_2.
    """

    title: str
    explained: str
    margins: bool


LOSSES = {
    "livo": LossChoice(
        "LiVO",
        "better than before on the chosen picture, worse on the rejected one, and each only up to a margin",
        True,
    ),
    "without-margin": LossChoice(
        "LiVO without margin", "the same without an end: nothing says when it is enough", False
    ),
    "dpo": LossChoice("DPO", "only the difference of the two counts, so both pictures may get worse together", False),
}
"""By the name that `train.preference.losses.LOSSES` has for it."""


@dataclass(frozen=True)
class LiveRequest:
    """What a visitor asks for.

    Attributes:
        concepts: occupations and adjectives to learn from.
        principle: one of `PRINCIPLES`.
        loss: one of `LOSSES`.
        gamma_1, gamma_2: the margins; read by losses that have them.
        seed: of pairs, noise and dealing.

    Raises:
        InputError: something is missing or out of range.
    """

    concepts: tuple[str, ...] = DEFAULT_CONCEPTS
    principle: str = "gender_equality"
    loss: str = "livo"
    gamma_1: float = 1.0
    gamma_2: float = 0.5
    num_steps: int = DEFAULT_STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.concepts:
            raise InputError("no concept is chosen: tick at least one that the model draws one-sidedly")
        if len(self.concepts) > MOST_CONCEPTS:
            raise InputError(
                f"{len(self.concepts)} concepts are too many to learn while you wait: tick at most {MOST_CONCEPTS}"
            )
        if self.principle not in PRINCIPLES:
            raise InputError(f"no principle {self.principle!r} to train here; there are: {', '.join(PRINCIPLES)}")
        if self.loss not in LOSSES:
            raise InputError(f"no loss {self.loss!r}; there are: {', '.join(LOSSES)}")
        for name, value in (("gamma 1", self.gamma_1), ("gamma 2", self.gamma_2)):
            if not (math.isfinite(value) and 0 <= value <= MOST_GAMMA):
                raise InputError(f"a {name} of {value:g} is no margin: give 0 to {MOST_GAMMA:g}")
        if not FEWEST_STEPS <= self.num_steps <= MOST_STEPS:
            raise InputError(f"{self.num_steps} steps cannot be trained here: give {FEWEST_STEPS} to {MOST_STEPS}")


# --- reports ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    """Others train first: how many, and about how many seconds until this one begins."""

    ahead: int
    seconds: float


@dataclass(frozen=True)
class Preparing:
    """What is being made ready, in words; `seconds` since this training began."""

    what: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Stepped:
    """A step is done. `numbers` are `train.preference.step.numbers_of`'s, averaged over this step's pairs."""

    step: int
    num_steps: int
    seconds: float
    numbers: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Preview:
    """The same prompts and seeds with the value on, and what the judge says of them.

    Attributes:
        step: 0 is before training: the model without a value.
        prompts, seeds: of the n images.
        images: (n, H, W, 3) uint8.
        labels: class per image, None where the judge cannot tell.
        wanted: per image, whether it shows a class that the model draws too rarely for its prompt.
        kept: per image, whether it is still read as the concept that was asked for.
        encoder: the value encoder that made them, as `pack_encoder` packs it; None at step 0.
    """

    step: int
    seconds: float
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    images: np.ndarray
    labels: tuple[str | None, ...]
    wanted: tuple[bool, ...]
    kept: tuple[bool, ...]
    encoder: bytes | None = None


@dataclass(frozen=True)
class Ended:
    """The training is over. `problem` says why where it ended early; what the last `Preview` has stays."""

    seconds: float
    problem: str = ""


Update = Waiting | Preparing | Stepped | Preview | Ended

LiveTrainer = Callable[[LiveRequest], Generator[Update, None, None]]
"""Trains as asked; closing the iterator ends the training at once. The page knows nothing else of it."""


# --- an encoder on its way -------------------------------------------------------------------------------------------

FOLDER = "my_value_encoder"
"""The folder in the archive: a visitor unpacks it and has what `--value-encoders NAME=FOLDER` reads."""


def pack_encoder(folder: Path) -> bytes:
    """A zip archive of a value encoder's folder: encoders travel as bytes, and nothing of a visitor's stays on disk."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{FOLDER}/{path.name}")
    return packed.getvalue()


def unpack_encoder(packed: bytes, under: Path) -> Path:
    """Writes the archive's folder under another one; returns the new folder."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(under)
    return under / FOLDER


# --- what the model draws unasked ------------------------------------------------------------------------------------

Shares = Mapping[str, Mapping[str, Mapping[str, int]]]
"""By concept, by attribute ("gender", "tone"), images per class."""


@dataclass(frozen=True)
class StoredShares:
    """`shares` of the model without any value, and how they were made."""

    shares: Shares = field(default_factory=dict)
    made_by: Mapping[str, object] = field(default_factory=dict)


def stored_shares(folder: Path | None, name: str = SHARES) -> StoredShares:
    """What lies in a backbone's folder; empty where nothing readable does."""
    try:
        stored = json.loads((folder / name).read_text(encoding="utf-8")) if folder else {}
        return StoredShares(stored["shares"], stored["made_by"]) if stored else StoredShares()
    except (OSError, ValueError, KeyError):
        return StoredShares()
