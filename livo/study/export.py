"""What a study gives away: ratings, items, codebook, consent log without names, preference pairs. Text by file name.

Raters are numbers, codes are nowhere; withdrawn raters are in none of the files.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence

from livo.measures.tables import csv_text
from livo.study.analysis import majority
from livo.study.answers import Answer, Answers, EventSource, read_answers
from livo.study.questions import LEFT, NO, QUESTIONS, RIGHT, YES
from livo.study.report import rater_name
from livo.study.study_file import STUDY, Item, StudyFolder
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
    return {
        "ratings.csv": csv_text(RATING_COLUMNS, map(_rating_row, (*answers.rows, *answers.unseen))),
        "items.csv": _items(answers),
        "codebook.md": _codebook(answers),
        "consent.csv": _consent(answers, store),
        "preferences.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in preference_pairs(answers)),
        STUDY: (folder.path / STUDY).read_text(encoding="utf-8"),
    }


RATING_COLUMNS = (
    "rater", "kind", "prompt", "seed", "item", "method", "item_right", "method_right", "question", "value", "chosen",
    "position", "of", "scale_reversed", "revealed", "milliseconds", "at",
)  # fmt: skip


def _rating_row(row: Answer) -> Sequence[object]:
    left, right = row.items[0], row.items[1] if len(row.items) > 1 else None
    chosen = {LEFT: left.method, RIGHT: right.method}.get(str(row.value), "") if right else ""
    return (
        rater_name(row.rater), row.kind, left.prompt, left.seed, left.id, left.method, right.id if right else "",
        right.method if right else "", row.question, row.value, chosen, row.position, row.of, int(row.reversed),
        int(row.revealed), row.ms, row.at,
    )  # fmt: skip


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
    lines = ["# Codebook", "", "All images are synthetic. Labels say how somebody appears, never what anybody is.", ""]
    lines += [
        "| file | column | meaning |",
        "|---|---|---|",
        *(f"| {file} | {name} | {text} |" for file, name, text in CODEBOOK),
    ]
    lines += ["", "| question | values | asked of |", "|---|---|---|"]
    for question in answers.folder.study.asked:
        values = ", ".join(map(str, question.values)) or "the classes of the principle, cannot_tell"
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
    labels = majority(answers, "toxic") if "toxic" in QUESTIONS else {}
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
