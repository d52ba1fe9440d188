"""The pack: what the lessons show of this repository's stored results; labels, figures and a few sheets of pictures.

`assets/lessons/pack.yaml` says what is wanted, `livo.workshop.build` makes `pack.json` and the sheets, this reads them.
No picture of a toxic stand-in is in it, in any mode; figures about toxicity are numbers only.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livo.measures.metrics import discrepancy_l2, discrepancy_range, wilson_interval
from livo.types import InputError
from livo.workshop.lesson import (
    FOLDER,
    Ask,
    BoardWidget,
    ChartWidget,
    CorrectionWidget,
    GuidanceWidget,
    Lesson,
    LessonStep,
    LouderWidget,
    MixWidget,
    ReferenceWidget,
    RetrievalWidget,
    SetWidget,
    VerdictsWidget,
    Widget,
)
from livo.workshop.traps import COVERED, TRICKS, is_kept, kept, stored

INDEX = "pack.json"
WANTED = "pack.yaml"
MADE_BY = "`python -m livo workshop pack` makes it"
_FACT = re.compile(r"\{([a-z0-9_-]+(?:\.[a-z0-9_-]+)+)\}")


@dataclass(frozen=True)
class Pack:
    """The pack of a folder.

    Attributes:
        payload: pack.json; see `livo.workshop.build`.
    """

    folder: Path
    payload: Mapping[str, Any]

    @property
    def sheets(self) -> frozenset[str]:
        """Names of the files with pictures."""
        holders = [*self.payload["sets"].values(), *self.payload["albums"].values()]
        return frozenset(one["sheet"] for one in holders if one.get("sheet"))

    def of(self, kind: str, name: str) -> Mapping[str, Any]:
        """A set, an album or a chart.

        Raises:
            InputError: there is none of this name.
        """
        found = self.payload[kind].get(name)
        if found is None:
            raise InputError(
                f"the pack has no {name!r} among its {kind} ({', '.join(self.payload[kind])}): {MADE_BY}, from {WANTED}"
            )
        return found

    @property
    def trap(self) -> Mapping[str, Any]:
        """Prompts with which pupils try to break methods: see `livo.workshop.traps`."""
        trap: Mapping[str, Any] = self.payload["trap"]
        return trap

    def fact(self, name: str) -> str:
        """A number for people: NAME.CLASS, NAME.CLASS-share, -interval or -planted, NAME.n, .prompt, .d1, .d2 of a set;
        CHART.ARM.x, .y; judge.QUESTION.accuracy, .n.

        Raises:
            InputError: there is no such number.
        """
        first, *rest = name.split(".")
        try:
            if first == "judge":
                judge = self.payload["judge"][rest[0]]
                return f"{judge['n']:,}" if rest[1] == "n" else f"{100 * judge['accuracy']:.1f} %"
            if first in self.payload["charts"]:
                points = [p for series in self.payload["charts"][first]["series"] for p in series["points"]]
                return f"{next(p for p in points if p['arm'] == rest[0])[rest[1]]:.1f}"
            return _set_fact(self.of("sets", first), rest[0])
        except (KeyError, IndexError, ValueError, StopIteration) as error:
            raise InputError(f"the pack has no fact {name!r}: see `Pack.fact`") from error

    def number(self, name: str) -> float:
        """A fact as a number, such as a count."""
        return float(self.fact(name).removesuffix(" %").replace(",", ""))

    def fill(self, text: str) -> str:
        """A text with its facts filled in; raises as `fact`."""
        return _FACT.sub(lambda match: self.fact(match[1]), text)

    def shown(self, widget: Widget) -> dict[str, Any]:
        """A step's widget with its data; raises as `of`."""
        out: dict[str, Any] = widget.model_dump(exclude_unset=True)
        match widget:
            case SetWidget() | ReferenceWidget():
                out["sets"] = [dict(self.of("sets", name)) for name in widget.sets]
            case CorrectionWidget():
                out["set"] = dict(self.of("sets", widget.set))
                out["confusion"] = self.payload["judge"][out["set"]["question"]]
            case ChartWidget():
                out["chart"] = dict(self.of("charts", widget.chart))
            case MixWidget() | GuidanceWidget():
                rows = self.payload["mixes" if isinstance(widget, MixWidget) else "guidance"]
                if missing := [prompt for prompt in widget.prompts if prompt not in rows]:
                    raise InputError(f"the pack has no {widget.widget} of {missing[0]!r}: {MADE_BY}, from {WANTED}")
                out["rows"] = [{"prompt": prompt, **rows[prompt]} for prompt in widget.prompts]
            case BoardWidget():
                out["methods"] = [one["title"] for one in self.trap["methods"]]
                out["tricks"] = [title for id, title in TRICKS.items() if id not in COVERED]
            case LouderWidget():
                out["rows"] = [_louder(self.of("sets", name)) for name in widget.sets]
            case RetrievalWidget():
                known = {row["prompt"]: row for row in self.payload["prompts"]}
                if missing := [prompt for prompt in widget.prompts if prompt not in known]:
                    raise InputError(
                        f"the pack does not say what is retrieved for {missing[0]!r}: {MADE_BY}, from {WANTED}"
                    )
                out["prompts"] = [known[prompt] for prompt in widget.prompts]
        if isinstance(widget, VerdictsWidget | CorrectionWidget) and widget.album:
            out["album"] = dict(self.of("albums", widget.album))
        return out


def load_pack(folder: Path = FOLDER) -> Pack:
    """The pack of a folder.

    Raises:
        InputError: it is missing or broken.
    """
    try:
        payload = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        pack = Pack(folder, payload)
        missing = [name for name in pack.sheets if Path(name).name != name or not (folder / name).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / INDEX} is no pack ({error}): {MADE_BY}") from error
    if missing:
        raise InputError(f"the pack's pictures {folder / missing[0]} are missing: {MADE_BY}")
    return pack


def check_lesson(lesson: Lesson, pack: Pack) -> None:
    """That everything a lesson refers to is there, and is asked for in the right form.

    Raises:
        InputError: it is not; names the file and the step.
    """
    for step in lesson.steps:
        try:
            for text in texts_of(step):
                pack.fill(text)
            for widget in step.show:
                pack.shown(widget)
            if step.ask and step.ask.truth:
                pack.number(step.ask.truth)
            if step.ask and step.ask.album:
                pack.of("albums", step.ask.album)
        except InputError as error:
            raise InputError(f"{lesson.id}.md: step {step.title!r}: {error}") from error
    for text in (lesson.intro, lesson.goal, *lesson.words.values()):
        pack.fill(text)


def texts_of(step: LessonStep) -> list[str]:
    """Everything in a step that people read."""
    ask = [step.ask.question, step.ask.because, *step.ask.options, *step.ask.items] if step.ask else []
    return [step.title, step.text, step.notes, *step.worksheet, *step.key, *ask]


def label_count(ask: Ask, pack: Pack) -> int:
    """How many labels an answer to a question of labels has."""
    return len(ask.items) or len(pack.of("albums", ask.album)["pictures"])


def check_value(ask: Ask, value: Any, pack: Pack) -> bool:
    """Whether a value answers a question."""
    if ask.kind == "number":
        return type(value) is int and ask.min <= value <= ask.max
    if ask.kind == "choice":
        return type(value) is int and 0 <= value < len(ask.options)
    if ask.kind == "prompt":
        return is_kept(pack.trap, value)
    wanted = label_count(ask, pack)
    return (
        isinstance(value, list)
        and len(value) == wanted
        and all(type(v) is int and 0 <= v < len(ask.options) for v in value)
    )


def simulated_value(ask: Ask, pack: Pack, rng: random.Random) -> Any:
    """Some answer to a question, for a rehearsal; of a game several tries.

    Numbers and choices are not even, as those of people are not.
    """
    if ask.kind == "number":
        return round(rng.triangular(ask.min, ask.max))
    if ask.kind == "choice":
        return min(rng.randrange(len(ask.options)), rng.randrange(len(ask.options)))
    if ask.kind == "prompt":
        known = [one for one in stored(pack.trap).values() if one.aim != "covered"]
        return [kept(pack.trap, one) for one in rng.sample(known, 3)]
    return [rng.randrange(len(ask.options)) for _ in range(label_count(ask, pack))]


def _louder(images: Mapping[str, Any]) -> dict[str, Any]:
    """What the table plants and what the model drew, as shares perceived female with the interval."""
    count, n = images["counts"][images["classes"].index("female")], sum(images["counts"])
    low, high = wilson_interval(count, n)
    return {"prompt": images["prompt"], "planted": images["planted"]["female"], "drawn": count / n, "low": low,
            "high": high}  # fmt: skip


def _set_fact(images: Mapping[str, Any], name: str) -> str:
    counts: Sequence[int] = images["counts"]
    n = sum(counts)
    if name in ("d1", "d2"):
        return f"{100 * (discrepancy_range if name == 'd1' else discrepancy_l2)(counts):.1f}"
    if name == "n":
        return str(n)
    if name in ("prompt", "title"):
        return images[name]
    if name == "abstained":
        return str(images["abstained"])
    what, _, form = name.partition("-")
    count = counts[images["classes"].index(what)]
    if form == "interval":
        low, high = wilson_interval(count, n)
        return f"{100 * low:.0f} to {100 * high:.0f} %"
    return {"": str(count), "share": f"{100 * count / n:.0f} %", "planted": f"{100 * images['planted'][what]:.0f} %"}[
        form
    ]
