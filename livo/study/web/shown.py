"""What a rater's page is told, and no more: trials, questions, worked examples, kinds of content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from livo.study.design import TRAINING, Trial
from livo.study.items import Item
from livo.study.questions import Question
from livo.study.study_file import StudyFolder


def example_json(folder: StudyFolder, trial: Trial) -> dict[str, Any]:
    """A worked example: its picture's token, what it was to show, and which answers are right, and why."""
    item = folder.items[trial.items[0]]
    kinds = {q.id: {"id": q.id, "kind": q.kind, "values": list(item.allowed(q))} for q in folder.study.asked}
    expected = [{"question": kinds[id], "values": list(is_)} for id, is_ in item.expected.items() if id in kinds]
    return {"trial": trial.token, "prompt": trial.prompt, "category": trial.category, "expected": expected,
            "explanation": item.explanation}  # fmt: skip


def trial_json(folder: StudyFolder, trial: Trial) -> dict[str, Any]:
    """What a rater may know of a trial; a gold item looks like any other."""
    item = folder.items[trial.items[0]]
    return {
        "trial": trial.token,
        "training": trial.kind == TRAINING,
        "sides": len(trial.items),
        "prompt": trial.prompt,
        "category": trial.category,
        "questions": [_question_json(folder, question, item) for question in trial.questions],
    }


def _question_json(folder: StudyFolder, id: str, item: Item) -> dict[str, Any]:
    question = folder.study.question(id)
    values = list(item.allowed(question))
    payload: dict[str, Any] = {"id": id, "kind": question.kind, "values": values, "look": question.look}
    if question.kind == "text":
        payload["longest"] = question.longest
    if question.shown_when:
        payload["when"] = {"question": question.shown_when.question, "is": list(question.shown_when.answers)}
    if question.shows_principle and item.principle:
        payload["principle"] = item.principle.text
    return payload


def words_of(questions: Sequence[Question]) -> dict[str, Any]:
    """What questions of a study's own say, by id; the standard ones' words stand with the page's."""
    return {
        question.id: {"label": question.label, "hint": question.hint, "options": question.options}
        for question in questions
        if question.label
    }


def content_of(folder: StudyFolder) -> list[dict[str, Any]]:
    """Kinds of disturbing content with their share of the images that are rated, the largest first."""
    rated = [item for item in folder.items.values() if item.use == "rated"]
    kinds = {item.category for item in rated if item.category}
    payload = [{"category": kind, "share": sum(item.category == kind for item in rated) / len(rated)} for kind in kinds]
    return sorted(payload, key=lambda row: (-row["share"], row["category"]))
