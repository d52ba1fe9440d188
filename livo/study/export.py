"""What a study gives away: ratings, items, codebook, consent log without names, preference pairs. Text by file name.

Raters are numbers, codes are nowhere; withdrawn raters are in none of the files.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from livo.measures.tables import csv_text
from livo.study.analysis import labels_of, majority, wins
from livo.study.answers import Answer, Answers, EventSource, read_answers
from livo.study.items import Item
from livo.study.questions import LEFT, NO, RIGHT, YES
from livo.study.report import rater_name
from livo.study.study_file import STUDY, StudyFolder
from livo.web.events import ORGANISER

CODEBOOK = (
    ("ratings.csv", "rater", "r001 and so on; no name and no code"),
    ("ratings.csv", "kind", "rating, pair, or gold for a silent check"),
    ("ratings.csv", "item, item_right", "image; of a pair, the left and the right one as shown"),
    ("ratings.csv", "method, method_right", "what made them; raters never saw it"),
    ("ratings.csv", "question, value", "what was asked and answered; see below"),
    ("ratings.csv", "chosen", "of a pair, the method that was preferred; empty for a tie"),
    ("ratings.csv", "position, of", "place of the trial in the rater's order, from 0, and how many there were"),
    ("ratings.csv", "scale_reversed", "1 where the scale was drawn from its highest point on"),
    ("ratings.csv", "revealed", "1 where a covered image was uncovered before the answer; others count in no figure"),
    ("ratings.csv", "milliseconds", "from the picture's appearing to the answer, by the rater's own clock"),
    ("ratings.csv", "at", "when the server stored it, UTC"),
    ("ratings.csv", "several choices, counts", "JSON in the cell; ratings.jsonl has them as they are"),
    ("wins.csv", "p_preferred, low, high", "share of comparisons that prefer the method, ties half, with its interval"),
    ("demographics.csv", "question, value", "what raters said of themselves; those left out are not there"),
    ("dataset/", "pictures, ratings", "the same for datasets.load_dataset, with pictures; without texts"),
    ("items.csv", "category", "kind of disturbing content the prompt asks for; empty for none"),
    ("items.csv", "digest", "SHA-256 of the image's file"),
    ("items.csv", "judge_...", "label of the automatic judge; empty where it abstained"),
    ("items.csv", "human_...", "label that most raters gave; empty where two lead or most could not tell"),
    ("consent.csv", "version", "digest of the study's files whose text was shown"),
    (
        "preferences.jsonl",
        "prompt, principle, chosen, rejected",
        "images by file name; votes of each; from pairs, or from labels",
    ),
)


def export_files(folder: StudyFolder, store: EventSource) -> dict[str, str]:
    """Every export by file name."""
    answers = read_answers(folder, store)
    rows = [row_of(row) for row in (*answers.rows, *answers.unseen)]
    return {
        "ratings.csv": BOM + csv_text(RATING_COLUMNS, ([_cell(value) for value in row.values()] for row in rows)),
        "ratings.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "items.csv": BOM + _items(answers),
        "wins.csv": BOM + _wins(answers),
        "codebook.md": _codebook(answers),
        "consent.csv": BOM + _consent(answers, store),
        "demographics.csv": BOM + _demographics(answers),
        "preferences.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in preference_pairs(answers)),
        STUDY: (folder.path / STUDY).read_text(encoding="utf-8"),
    }


BOM = "\ufeff"
"""By which a spreadsheet knows that a CSV is UTF-8."""
RATING_COLUMNS = (
    "rater", "kind", "prompt", "seed", "item", "method", "item_right", "method_right", "question", "value", "chosen",
    "position", "of", "scale_reversed", "revealed", "milliseconds", "at",
)  # fmt: skip


def row_of(row: Answer) -> dict[str, Any]:
    """An answer by column, with values as they were given."""
    left, right = row.items[0], row.items[1] if len(row.items) > 1 else None
    chosen = {LEFT: left.method, RIGHT: right.method}.get(str(row.value), "") if right else ""
    values = (
        rater_name(row.rater), row.kind, left.prompt, left.seed, left.id, left.method, right.id if right else "",
        right.method if right else "", row.question, row.value, chosen, row.position, row.of, row.reversed,
        row.revealed, row.ms, row.at,
    )  # fmt: skip
    return dict(zip(RATING_COLUMNS, values, strict=True))


def _cell(value: object) -> object:
    """Several choices and counts are JSON in a cell, and truth is 1."""
    if isinstance(value, bool):
        return int(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _wins(answers: Answers) -> str:
    head = ("method", "other", "won", "lost", "tied", "p_preferred", "low", "high", "why_no_interval")
    rows = []
    for win in wins(answers):
        bounds = (win.share.low, win.share.high) if win.share.has_interval else ("", "")
        rows.append((win.method, win.other, win.won, win.lost, win.tied, win.share.value, *bounds, win.share.reason))
    return csv_text(head, rows)


def _demographics(answers: Answers) -> str:
    rows = (
        (rater_name(rater), question, _cell(value))
        for rater, now in answers.states.items() if not now.withdrawn
        for question, value in (now.demographics or {}).items()
    )  # fmt: skip
    return csv_text(("rater", "question", "value"), rows)


def _items(answers: Answers) -> str:
    judged = sorted({question for item in answers.folder.items.values() for question in item.judge})
    asked = [q.id for q in answers.folder.study.asked if q.kind == "choice"]
    human = {question: majority(answers, question) for question in asked}
    head = (
        "item",
        "use",
        "prompt",
        "seed",
        "method",
        "principle",
        "category",
        "digest",
        *(f"judge_{q}" for q in judged),
        *(f"human_{q}" for q in asked),
    )

    def row(item: Item) -> Sequence[object]:
        principle = item.principle.id if item.principle else ""
        described = (item.id, item.use, item.prompt, item.seed, item.method, principle, item.category, item.digest)
        return (*described, *(item.judge.get(q, "") for q in judged), *(human[q].get(item.id) or "" for q in asked))

    return csv_text(head, map(row, answers.folder.items.values()))


def _consent(answers: Answers, store: EventSource) -> str:
    rows = []
    for event in store.events():
        if event.kind == "consent" and event.stream != ORGANISER and not answers.states[event.stream].withdrawn:
            rows.append(
                (
                    rater_name(event.stream),
                    event.at,
                    event.body["version"],
                    event.body["language"],
                    int(event.body["adult"]),
                )
            )
    return csv_text(("rater", "at", "version", "language", "adult"), rows)


def _codebook(answers: Answers) -> str:
    made = "Programs made all images. " if answers.folder.study.synthetic else ""
    lines = ["# Codebook", "", f"{made}Labels say how somebody appears, never what anybody is.", ""]
    lines += [
        "| file | column | meaning |",
        "|---|---|---|",
        *(f"| {file} | {name} | {text} |" for file, name, text in CODEBOOK),
    ]
    lines += ["", "| question | values | asked of |", "|---|---|---|"]
    for question in answers.folder.study.asked:
        free = {"slider": "0 to 100", "text": f"at most {question.longest} characters"}
        classes = free.get(question.kind, "the classes of the principle, cannot_tell")
        values = ", ".join(map(str, question.values)) or classes
        lines.append(f"| {question.id} | {values} | {question.risk or 'every image'} |")
    return "\n".join(lines) + "\n"


def preference_pairs(answers: Answers) -> list[dict[str, object]]:
    """Chosen and rejected images of one prompt, for DPO or LiVO: from pairs that people compared, and from toxic
    prompts whose images people labelled apart; majority votes, ties left out."""
    out: list[dict[str, object]] = []
    votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in answers.of("preference", "pair"):
        first, second = sorted(item.id for item in row.items)
        if row.value in (LEFT, RIGHT):
            votes[first, second][row.items[row.value == RIGHT].id] += 1
    for pair, of in votes.items():
        chosen, rejected = sorted(pair, key=of.__getitem__, reverse=True)
        if of[chosen] > of[rejected]:
            out.append(_pair(answers, chosen, rejected, of[chosen], of[rejected], "compared"))
    labels = labels_of(answers, "toxicity")
    stimuli: dict[tuple[str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for id, label in labels.items():
        if label:
            item = answers.folder.items[id]
            stimuli[item.prompt, item.seed][label].append(id)
    for labelled in stimuli.values():
        out += [
            _pair(answers, clean, toxic, None, None, "labelled") for clean in labelled[NO] for toxic in labelled[YES]
        ]
    return out


def _pair(
    answers: Answers, chosen: str, rejected: str, votes_w: int | None, votes_l: int | None, source: str
) -> dict[str, object]:
    better, worse = answers.folder.items[chosen], answers.folder.items[rejected]
    return {
        "prompt": better.prompt, "principle": better.principle.text if better.principle else None, "seed": better.seed,
        "chosen": f"images/{chosen}.png", "rejected": f"images/{rejected}.png", "chosen_method": better.method,
        "rejected_method": worse.method, "votes_chosen": votes_w, "votes_rejected": votes_l, "source": source,
    }  # fmt: skip
