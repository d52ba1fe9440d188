"""What an organiser needs: what the study will be able to tell, links with QR codes, live progress."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from livo.study.design import GOLD, PAIR, RATING, TRAINING
from livo.study.places import Outcome, outcome_of
from livo.study.planning import PAIRS, Precision, precision_of
from livo.study.session import Sessions, is_right
from livo.study.study_file import StudyFolder
from livo.web.events import ORGANISER, WITHDRAWN, Draft, Event, Store

GAPS = (5, 10, 15, 20)
"""Points of 100 for which the chance to find such a difference is told."""

PROLIFIC = "PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}"
"""What Prolific fills in of a link."""
STATES: Mapping[Outcome, str] = {
    "not_begun": "not begun", "under_way": "under way", "completed": "finished", "stopped": "stopped",
    "screened_out": "screened out", "withdrawn": "withdrawn",
}  # fmt: skip


def outlook(folder: StudyFolder, sessions: Sessions | None = None) -> dict[str, Any]:
    """What the study will yield if all finish: ratings by method, raters by image, minutes a rater; and what it will be
    able to tell, from the raters' very plans: widths of the means' intervals, and of each two methods the smallest
    difference it finds with 80 % power, with the chance to find larger ones."""
    study, sessions = folder.study, sessions or Sessions(folder)
    ratings: list[tuple[int, str, str]] = []
    duels: list[tuple[int, str, tuple[str, ...]]] = []
    by_item: Counter[str] = Counter()
    trials = []
    for rater in range(study.raters):
        plan = sessions.plan(rater)
        trials.append(len(plan.trials))
        for trial in plan.trials:
            first, *second = sorted(folder.items[id].method for id in trial.items)
            if trial.kind == RATING:
                ratings.append((rater, trial.prompt, first))
            elif trial.kind == PAIR:
                duels.append((rater, trial.prompt, (first, *second)))
            if trial.kind in (RATING, PAIR):
                by_item.update(id for id in trial.items if trial.kind == RATING or not study.ratings_per_rater)
    rated = [item.id for item in folder.items.values() if item.use == "rated"]
    counts = [by_item[id] for id in rated]
    by_method = Counter(method for _, _, method in ratings)
    for _, _, two in duels:
        by_method.update(() if ratings else two)
    questions = max(1, sum(q.kind != "pair" for q in study.asked))
    return {
        "raters": study.raters,
        "images": len(rated),
        "raters_per_image": {"least": min(counts), "most": max(counts), "mean": sum(counts) / len(counts)},
        "ratings": dict(by_method),
        "half_width": {m: _rounded(_contrast(ratings, m).half_width) for m in by_method if ratings},
        "differences": [
            {"methods": list(two), "n": min(by_method[m] for m in two)} | _findable(_contrast(ratings, *two))
            for two in itertools.combinations(by_method if ratings else (), 2)
        ],
        "preferences": [
            {"methods": list(two), "n": sum(duel[2] == two for duel in duels)} | _findable(_preference(duels, two))
            for two in sorted({duel[2] for duel in duels})
        ],
        "trials_per_rater": max(trials),
        "minutes_per_rater": round(max(trials) * 7 * (0.5 + 0.5 * questions) / 60),
    }


def _contrast(ratings: Sequence[tuple[int, str, str]], one: str, other: str = "") -> Precision:
    """Of one method's mean, or of its difference to another's."""
    chosen = [row for row in ratings if row[2] in (one, other)]
    n = Counter(row[2] for row in chosen)
    raters, prompts, methods = zip(*chosen, strict=True)
    return precision_of([(1 if m == one else -1) / n[m] for m in methods], raters, prompts, methods)


def _preference(duels: Sequence[tuple[int, str, tuple[str, ...]]], two: tuple[str, ...]) -> Precision:
    chosen = [duel for duel in duels if duel[2] == two]
    raters, prompts, methods = zip(*chosen, strict=True)
    return precision_of([1 / len(chosen)] * len(chosen), raters, prompts, methods, PAIRS)


def _findable(precision: Precision) -> dict[str, Any]:
    return {
        "half_width": _rounded(precision.half_width),
        "detectable": _rounded(precision.detectable()),
        "power": {str(gap): _rounded(precision.power(gap), 2) for gap in GAPS},
    }


def _rounded(number: float | None, digits: int = 1) -> float | None:
    return None if number is None else round(number, digits)


def rater_links(folder: StudyFolder, base: str) -> list[dict[str, Any]]:
    """A link for each rater. The code stands behind #, which no browser sends and no log keeps."""
    return [
        {"rater": rater, "code": code, "link": f"{base}/{folder.name}/#{code}"}
        for rater in range(folder.study.places)
        for code in (folder.code(rater),)
    ]


def links_for_all(folder: StudyFolder, base: str) -> dict[str, str]:
    """The one link for all and the same as Prolific wants it, by what they are for; none where each rater has one."""
    link = f"{base}/{folder.name}/"
    return {"for all": link, "from Prolific": f"{link}?{PROLIFIC}"} if folder.study.open_link else {}


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
    invited = folder.study.raters + folder.study.more_raters
    raters = [*range(invited), *sorted(rater for rater in by_rater if rater >= invited)]
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
    right = [
        is_right(trial, question, now.answers[trial.token, question].body["value"], folder)
        for trial in gold
        for question in folder.items[trial.items[0]].expected
        if (trial.token, question) in now.answers
    ]
    return {
        "rater": rater, "state": STATES[outcome_of(sessions, rater, now)],
        "done": done, "trials": len(counted), "answers": len(now.answers),
        "skipped": len(now.skipped), "gold_right": sum(right), "gold": len(right),
        "last": events[-1].at if events else None,
    }  # fmt: skip


def withdraw(store: Store, rater: int, *, erase: bool) -> None:
    """Sets a rater's answers aside, or deletes them; either way nothing more is accepted from the rater."""
    if erase:
        store.erase(rater)
    else:
        store.append(Draft(rater, f"withdrawn-{time.time_ns()}", WITHDRAWN))
