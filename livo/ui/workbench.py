"""What the page works with: a backbone, the methods and the judge, loaded once and shared by all visitors.

Nothing here belongs to one visitor, and a file that is missing or broken is a message on the page, not the end of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baselines import available, load_methods
from livo.classifiers.choice import load_judges
from livo.compare import MethodEntry
from livo.diffusion.backbones import DEFAULTS, BackboneError, Defaults, load_backbone
from livo.diffusion.engine import Engine
from livo.types import Judge
from livo.ui.access import Access
from livo.ui.serving import Generate


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
        access: what visitors may ask for and see.
        generate: makes comparisons elsewhere than in this process; None where they are made here.
        fallback: what answers where a GPU fails.
        notice: what visitors should know from the start.
    """

    engine: Engine | None
    entries: Mapping[str, MethodEntry]
    defaults: Defaults
    judge: Judge | None = None
    problem: str = ""
    judge_problem: str = ""
    unknown_words: Callable[[str], Sequence[str]] = no_unknown_words
    swatches: Mapping[str, str] = field(default_factory=dict)
    access: Access = Access()
    generate: Generate | None = None
    fallback: Workbench | None = None
    notice: str = ""


def load_workbench(
    name: str = "miniature",
    device: str | None = None,
    dtype: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    judge: str = "auto",
) -> Workbench:
    """Loads whatever loads of a backbone, every method of `baselines/`, and the judge.

    Args:
        name, device, dtype: as in `load_backbone`.
        settings: of the methods, as in `load_methods`.
        judge: as in `load_judges`.
    """
    defaults = DEFAULTS.get(name, DEFAULTS["miniature"])
    try:
        backbone = load_backbone(name, device, dtype)
    except BackboneError as error:
        return Workbench(None, {}, defaults, problem=str(error))
    engine = Engine(backbone)
    entries = load_methods(available(), engine, settings)
    chosen, judge_problem = None, ""
    try:
        chosen = load_judges(judge, backbone.folder, backbone.device)
    except RuntimeError as error:
        judge_problem = f"there are images, and no figures: {error}"
    return Workbench(engine, entries, backbone.defaults, chosen, "", judge_problem, *_language(name))


def _language(name: str) -> tuple[Callable[[str], Sequence[str]], Mapping[str, str]]:
    """What is known about the words and colours that a backbone was trained on: only the drawn world lists them."""
    if name != "miniature":
        return no_unknown_words, {}
    from livo.miniature.captions import unknown_words
    from livo.miniature.world import load_world

    world = load_world()
    return lambda prompt: unknown_words(world, prompt), world.tones
