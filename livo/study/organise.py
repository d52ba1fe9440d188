"""What an organiser needs: the width of the intervals before start, links with QR codes, live progress."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from livo.study.design import GOLD, PAIR, RATING, TRAINING
from livo.study.session import Sessions, is_right
from livo.study.study_file import StudyFolder
from livo.web.events import ORGANISER, Event, Store


@dataclass(frozen=True)
class Spread:
    """How far ratings in [0, 100] lie apart: standard deviations between prompts, between raters, and of what is left.

    The defaults are assumptions, on the wide side; `report` prints those that a study found.
    """

    prompts: float = 18.0
    raters: float = 8.0
    rest: float = 28.0


def expected_width(
    raters: int, prompts: int, ratings: float, spread: Spread = Spread(), confidence: float = 0.95
) -> float:
    """Width of the interval of one method's mean rating, in points of 100, if raters and prompts were drawn anew.

    w = 2 z sqrt(s_p^2 / P + s_r^2 / R + s_e^2 / n)

    Args:
        raters: R who rate the method.
        prompts: P it is rated on.
        ratings: n of the method, over all raters and prompts.

    Raises:
        ValueError: one of them is below 1.

    Example:
        >>> round(expected_width(5, 12, 300), 1)
        25.5
        >>> expected_width(20, 48, 1200) < expected_width(5, 12, 300)
        True
    """
    if min(raters, prompts, ratings) < 1:
        raise ValueError(f"{raters} raters, {prompts} prompts, {ratings} ratings: give at least 1 of each")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return 2 * z * math.sqrt(spread.prompts**2 / prompts + spread.raters**2 / raters + spread.rest**2 / ratings)


def outlook(folder: StudyFolder, sessions: Sessions | None = None) -> dict[str, Any]:
    """What the study will yield if all finish: ratings by method, raters by image, interval widths, minutes a rater."""
    study, sessions = folder.study, sessions or Sessions(folder)
    by_method: Counter[str] = Counter()
    by_item: Counter[str] = Counter()
    prompts: dict[str, set[str]] = {}
    trials = []
    for rater in range(study.raters):
        plan = sessions.plan(rater)
        trials.append(len(plan.trials))
        for trial in plan.trials:
            if trial.kind not in (RATING, PAIR):
                continue
            for id in trial.items:
                item = folder.items[id]
                by_method[item.method] += 1
                prompts.setdefault(item.method, set()).add(item.prompt)
                by_item[id] += trial.kind == RATING or not study.ratings_per_rater
    rated = [item.id for item in folder.items.values() if item.use == "rated"]
    counts = [by_item[id] for id in rated]
    widths = {m: expected_width(study.raters, len(prompts[m]), n) for m, n in by_method.items()}
    questions = max(1, sum(q.kind != "pair" for q in study.asked))
    return {
        "raters": study.raters,
        "images": len(rated),
        "raters_per_image": {"least": min(counts), "most": max(counts), "mean": sum(counts) / len(counts)},
        "ratings": dict(by_method),
        "expected_width": {m: round(width, 1) for m, width in widths.items()},
        "trials_per_rater": max(trials),
        "minutes_per_rater": round(max(trials) * 7 * (0.5 + 0.5 * questions) / 60),
    }


def rater_links(folder: StudyFolder, base: str) -> list[dict[str, Any]]:
    """A link for each rater. The code stands behind #, which no browser sends and no log keeps."""
    return [
        {"rater": rater, "code": code, "link": f"{base}/{folder.name}/#{code}"}
        for rater in range(folder.study.raters + folder.study.more_raters)
        for code in (folder.code(rater),)
    ]


def live_status(
    folder: StudyFolder, store: Store, sessions: Sessions, problems: list[str] | None = None
) -> dict[str, Any]:
    """Where every rater is, and how the study is doing; nothing that says what any method scored.

    Args:
        problems: of the store, if it was verified a moment ago.
    """
    by_rater: dict[int, list[Event]] = {}
    for event in store.events():
        by_rater.setdefault(event.stream, []).append(event)
    raters = [*range(folder.study.raters), *sorted(rater for rater in by_rater if rater >= folder.study.raters)]
    rows = [_rater_row(folder, sessions, rater, by_rater.get(rater, [])) for rater in raters]
    last = max((event.at for events in by_rater.values() for event in events), default=None)
    return {
        "title": folder.study.title,
        "methods": list(folder.titles),
        "version": folder.digest[:12],
        "frozen": any(rater != ORGANISER for rater in by_rater),
        "outlook": outlook(folder, sessions),
        "raters": rows,
        "answers": sum(row["answers"] for row in rows),
        "last_saved": last,
        "problems": store.verify() if problems is None else problems,
    }


def _rater_row(folder: StudyFolder, sessions: Sessions, rater: int, events: list[Event]) -> Mapping[str, Any]:
    now = sessions.progress(rater, events)
    plan = sessions.plan(rater, now.opted_out)
    counted = [trial for trial in plan.trials if trial.kind != TRAINING]
    done = sum(now.done(trial, folder) for trial in counted)
    gold = [trial for trial in counted if trial.kind == GOLD]
    told = [
        is_right(trial, question, now.answers[trial.token, question].body["value"], folder)
        for trial in gold
        for question in folder.items[trial.items[0]].expected
        if (trial.token, question) in now.answers
    ]
    if now.withdrawn:
        state = "withdrawn"
    elif not now.consented:
        state = "not begun"
    elif done == len(counted):
        state = "finished"
    else:
        state = "stopped" if now.stopped else "under way"
    return {
        "rater": rater, "state": state, "done": done, "trials": len(counted), "answers": len(now.answers),
        "skipped": len(now.skipped), "gold_right": sum(told), "gold": len(told),
        "last": events[-1].at if events else None,
    }  # fmt: skip
