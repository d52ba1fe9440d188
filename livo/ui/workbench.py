"""What the page works with: a backbone, the methods and the judge, loaded once and shared by all visitors.

Nothing here belongs to one visitor, and a file that is missing or broken is a message on the page, not the end of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from baselines import available, load_entrants
from livo.backbones import DEFAULTS, BackboneError, Defaults, load_backbone
from livo.compare import Entrant, find_judge
from livo.engine import Engine
from livo.types import Judge


def no_unknown_words(prompt: str) -> Sequence[str]:
    """For a backbone whose vocabulary nobody listed."""
    return ()


@dataclass(frozen=True)
class Workbench:
    """The parts.

    Attributes:
        engine: None where the backbone could not be loaded; `problem` then says why.
        judge: None where there is none; `judge_problem` says why if one was to be expected.
        unknown_words: words of a prompt that the backbone never saw.
        swatches: a colour by class name of the judge, shown beside it.
    """

    engine: Engine | None
    entrants: Mapping[str, Entrant]
    defaults: Defaults
    judge: Judge | None = None
    problem: str = ""
    judge_problem: str = ""
    unknown_words: Callable[[str], Sequence[str]] = no_unknown_words
    swatches: Mapping[str, str] = field(default_factory=dict)


def load_workbench(name: str = "miniature") -> Workbench:
    """Loads whatever loads of a backbone, every method of `baselines/`, and the judge."""
    defaults = DEFAULTS.get(name, DEFAULTS["miniature"])
    try:
        backbone = load_backbone(name)
    except BackboneError as error:
        return Workbench(None, {}, defaults, problem=str(error))
    engine = Engine(backbone)
    entrants = load_entrants(available(), engine)
    judge, judge_problem = None, ""
    try:
        judge = find_judge(backbone.folder)
    except RuntimeError as error:
        judge_problem = str(error)
    return Workbench(engine, entrants, backbone.defaults, judge, "", judge_problem, *_language(name))


def _language(name: str) -> tuple[Callable[[str], Sequence[str]], Mapping[str, str]]:
    """What is known about the words and colours that a backbone was trained on: only the drawn world lists them."""
    if name != "miniature":
        return no_unknown_words, {}
    from livo.miniature.captions import unknown_words
    from livo.miniature.world import load_world

    world = load_world()
    return lambda prompt: unknown_words(world, prompt), world.tones
