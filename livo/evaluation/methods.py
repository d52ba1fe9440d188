"""Methods: what is compared, each a method with every image steered, and the paper's and our own controls among them.

A method that steers only a share of its images, as LiVO does against bias, is run with all of them steered. What its
quota gives is put together afterwards from those and Stable Diffusion's images of the same seeds, for any share.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from livo.compare.comparison import MethodEntry
from livo.diffusion.engine import Engine
from livo.evaluation.parts import CONTROLS, LIVO, SD
from livo.methods.edited_weights import EditedProjections
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder, load_value_encoder, value_text
from livo.principles import load_principles
from livo.types import InputError, Method, Plan, Principle, SamplingOptions

NEUTRAL_TEXT = "a picture"
"""What a value encoder reads in place of a principle, for a control; no training reads it."""
_NAME = re.compile(r"[a-z][a-z0-9._-]*")


@dataclass(frozen=True)
class EvaluatedMethod:
    """One thing to compare.

    Attributes:
        method: steers every image.
        mixes: whether its bias images are to be mixed with Stable Diffusion's afterwards.
        weights: digest of the files it adds to the backbone; empty where it adds none.
        control: run only where a part names it.
    """

    id: str
    title: str
    risks: tuple[str, ...]
    method: Method
    mixes: bool = False
    weights: str = ""
    control: bool = False


@runtime_checkable
class Mixing(Method, Protocol):
    """A method that steers only a share of its images."""

    def at_rate(self, mixing_rate: float, /) -> Method:
        """The same with another share."""


class PrinciplePrompted:
    """ "LiVO w/o v" (Table 3): the principle's words are put before the prompt, and no value encoder reads them."""

    def __init__(self, plain: Method) -> None:
        self.plain = plain

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan:
        """Stable Diffusion's plan for "principle, prompt", the words that E^v would have read."""
        text = prompt if principle is None else value_text(principle.text, prompt)
        return self.plain.plan(text, None, options)


class OtherValue:
    """Control: the trained value encoder reads other words than the principle's.

    Args:
        text: what it reads; a principle's of the other risk where None.
    """

    def __init__(self, livo: Method, text: str | None) -> None:
        self.livo, self.text = livo, text

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan:
        """LiVO's plan under a principle of the same risk that says something else."""
        if principle is None:
            return self.livo.plan(prompt, None, options)
        text = self.text or next(p.text for p in load_principles() if p.risk != principle.risk)
        return self.livo.plan(prompt, replace(principle, text=text), options)


def controls_of(livo: EvaluatedMethod) -> dict[str, EvaluatedMethod]:
    """Those of `CONTROLS` that a trained value encoder is held against, by id."""
    texts = {"neutral": NEUTRAL_TEXT, "shuffled": None}
    return {
        id: replace(livo, id=id, title=f"{livo.title}: {CONTROLS[name]}", method=OtherValue(livo.method, text),
                    control=True)
        for name, text in texts.items()
        for id in [f"{livo.id}.{name}"]
    }  # fmt: skip


def build_methods(
    engine: Engine, entries: Mapping[str, MethodEntry], encoders: Mapping[str, Path] | None = None
) -> dict[str, EvaluatedMethod]:
    """Methods by id: the entries, "LiVO w/o v", further trainings, and what their value tokens are held against.

    Args:
        entries: Stable Diffusion among them; one that could not be loaded ends the run: a table with a hole would not
            say so.
        encoders: folders by name: a value encoder, which LiVO reads, or edited weights.

    Raises:
        InputError: an entry could not be loaded, Stable Diffusion is not among them, or a name cannot be used.
        ValueEncoderError: a folder's encoder is missing, broken or another backbone's.
        ProjectionError: edited weights are.
    """
    if SD not in entries:
        raise InputError(f"every evaluation is against {SD}; it is not among: {', '.join(entries)}")
    folder = engine.backbone.folder
    methods: dict[str, EvaluatedMethod] = {}
    for id, entry in entries.items():
        if entry.method is None:
            raise InputError(entry.problem)
        mixes = isinstance(entry.method, Mixing)
        method = entry.method.at_rate(1.0) if isinstance(entry.method, Mixing) else entry.method
        own = folder / ("value_encoder" if id == LIVO else id)
        methods[id] = EvaluatedMethod(id, entry.title, entry.risks, method, mixes, digest(own))
    plain, both, known = methods[SD].method, ("bias", "toxicity"), {p.id: p.risk for p in load_principles()}
    methods["principle_prompted"] = EvaluatedMethod(
        "principle_prompted", "LiVO w/o v", both, PrinciplePrompted(plain), mixes=True
    )
    if LIVO in methods:
        untrained = LiVO(engine, ValueEncoder.untrained(engine.backbone), 1.0)
        id, title = f"{LIVO}.untrained", f"{methods[LIVO].title}: {CONTROLS['untrained']}"
        methods |= controls_of(methods[LIVO])
        methods[id] = EvaluatedMethod(id, title, both, untrained, mixes=True, control=True)
    for name, path in (encoders or {}).items():
        if not _NAME.fullmatch(name) or name in methods:
            raise InputError(
                f"a value encoder cannot be called {name!r}: give small letters, digits, '-', '.' or '_', and no "
                "method's name"
            )
        if edited := [p.stem for p in path.glob("*.safetensors") if p.stem in known]:
            edits = EditedProjections(engine, str(path.resolve()), "train it again")
            risks = tuple(dict.fromkeys(known[stem] for stem in edited))
            methods[name] = EvaluatedMethod(name, name, risks, edits, weights=digest(path))
            continue
        encoder = load_value_encoder(path, engine.backbone)
        methods[name] = EvaluatedMethod(name, name, both, LiVO(engine, encoder, 1.0), mixes=True, weights=digest(path))
        methods |= controls_of(methods[name])
    return methods


def digest(folder: Path | None) -> str:
    """Which weights lie in a folder: 16 hex digits over all its safetensors files; empty where there are none."""
    if folder is None:
        return ""
    paths, parts = sorted(folder.rglob("*.safetensors")), hashlib.sha256()
    for path in paths:
        parts.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return parts.hexdigest()[:16] if paths else ""
