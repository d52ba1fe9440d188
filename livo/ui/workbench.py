"""What the page works with: a backbone, the methods and the judge, loaded once and shared by all visitors.

Nothing here belongs to one visitor, and a file that is missing or broken is a message on the page, not the end of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from baselines import available, load_methods
from livo.classifiers.choice import load_judges
from livo.compare.comparison import Comparison, ComparisonRequest, MethodEntry
from livo.compare.outlook import Pace
from livo.diffusion.backbones import NO_MODEL, BackboneError, Defaults
from livo.diffusion.engine import Engine, load_engine
from livo.miniature.world import load_world
from livo.retriever.vocabulary import Vocabulary, everything_known, vocabulary_of
from livo.types import NO_CHANGES, InputError, Judge, ModelChanges, Progress
from livo.ui.access import Access
from livo.ui.turn import Turn

Generate = Callable[[ComparisonRequest], Generator[Progress | Comparison, None, None]]
"""Makes a comparison that was asked for."""


@dataclass(frozen=True)
class Workbench:
    """The parts.

    Attributes:
        engine: None where the backbone could not be loaded; `problem` then says why.
        judge: None where there is none; `judge_problem` says why if one was to be expected.
        vocabulary: which words the backbone knows.
        swatches: a colour by class name of the judge, shown beside it.
        access: what visitors may ask for and see.
        generate: makes comparisons elsewhere than in this process; None where they are made here.
        fallback: what answers where a GPU fails.
        turn: held by the comparison that is being made.
        notice: what visitors should know from the start.
        pace: how fast this machine has been.
        any_size: pictures of other sizes are of use; the drawn world has one.
    """

    engine: Engine | None
    entries: Mapping[str, MethodEntry]
    defaults: Defaults
    judge: Judge | None = None
    problem: str = ""
    judge_problem: str = ""
    vocabulary: Vocabulary = everything_known
    swatches: Mapping[str, str] = field(default_factory=dict)
    access: Access = field(default_factory=Access)
    generate: Generate | None = None
    fallback: Workbench | None = None
    notice: str = ""
    turn: Turn = field(default_factory=Turn)
    pace: Pace = field(default_factory=Pace)
    any_size: bool = False

    @property
    def reads(self) -> Callable[[str], str]:
        """The beginning of a prompt that the backbone reads; all of it where there is none."""
        return str if self.engine is None else self.engine.backbone.text.read


def load_workbench(
    name: str = "miniature",
    device: str | None = None,
    dtype: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    judge: str = "auto",
    changes: ModelChanges = NO_CHANGES,
    *,
    graphs: bool = False,
) -> Workbench:
    """Loads whatever loads of a backbone, every method of `baselines/`, and the judge.

    Args:
        name, device, dtype, changes, graphs: as in `load_engine`.
        settings: of the methods, as in `load_methods`.
        judge: as in `load_judges`.
    """
    try:
        engine = load_engine(name, device, dtype, changes, graphs=graphs)
    except (BackboneError, InputError) as error:
        return Workbench(None, {}, NO_MODEL, problem=str(error))
    backbone = engine.backbone
    entries = load_methods(available(), engine, settings)
    chosen, judge_problem = None, ""
    try:
        chosen = load_judges(judge, backbone.folder, backbone.device)
    except RuntimeError as error:
        judge_problem = f"there are images, and no figures: {error}"
    swatches = load_world().tones if name == "miniature" else {}
    return Workbench(
        engine, entries, backbone.defaults, chosen, "", judge_problem, vocabulary_of(backbone.name), swatches,
        any_size=name != "miniature",
    )  # fmt: skip
