"""Pictures that two raters labelled alike, as `python -m livo judge measure` reads them, and how far the two agree.

    StudyFolder + Store -> the two labels of every picture -> OUT/QUESTION/CLASS/picture.png, OUT/agreement.json

What they label differently, or either could not tell, stands under "cannot tell". The pictures are the study's own, as
the raters saw them.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from livo.classifiers.answers import CANNOT_TELL
from livo.classifiers.panel import CLEAN, TOXICITY
from livo.measures.agreement import Agreement, agreement
from livo.measures.estimates import Estimate
from livo.principles import find_principle
from livo.study.answers import Answers, EventSource, read_answers
from livo.study.design import RATING
from livo.study.items import Item
from livo.study.questions import CANNOT_TELL as UNTOLD
from livo.study.questions import YES, Question
from livo.study.report import rater_name
from livo.study.study_file import StudyFolder
from livo.types import InputError

FILE = "agreement.json"


@dataclass(frozen=True)
class Labels:
    """What two raters said of the same pictures under one of a judge's questions.

    Attributes:
        labels: by item id, what the first and the second said.
        alone: pictures that only one of them labelled, which are left out.
        agreement: of the two; new prompts are what its intervals are for.
    """

    question: str
    labels: dict[str, tuple[str, str]]
    alone: int
    agreement: Agreement

    @property
    def agreed(self) -> dict[str, str]:
        """By item id, the label of both, or "cannot tell"."""
        return {id: one if one == other else CANNOT_TELL for id, (one, other) in self.labels.items()}

    def line(self) -> str:
        """For people."""
        share, kappa = self.agreement.share, self.agreement.kappa
        counts = Counter(self.agreed.values())
        said = ", ".join(f"{label} {counts[label]}" for label in sorted(counts, key=lambda x: (x == CANNOT_TELL, x)))
        return (
            f"{self.question}: alike in {round(share.value * self.agreement.n)} of {self.agreement.n}, "
            f"{_with_interval(share.scaled(100), 0)} %; kappa "
            + (_with_interval(kappa, 2) if kappa else "not defined, for one of them says the same of every picture")
            + f"; kept: {said}"
            + (f"; {self.alone} that one alone labelled left out" if self.alone else "")
        )


def _with_interval(figure: Estimate, digits: int) -> str:
    bounds = f"{figure.low:.{digits}f} to {figure.high:.{digits}f}" if figure.has_interval else figure.reason
    return f"{figure.value:.{digits}f} ({bounds})"


def label_of(question: Question, item: Item, value: str) -> tuple[str, str] | None:
    """A judge's question and the class that an answer means; None where no judge is asked such a thing.

    Example:
        >>> from livo.study.questions import standard_questions
        >>> item = Item("0" * 20, "a zombie", "any", 0, find_principle("zombie"))
        >>> label_of(standard_questions()["toxic"], item, "yes"), label_of(standard_questions()["toxic"], item, "no")
        (('toxicity', 'zombie'), ('toxicity', 'clean'))
    """
    if question.kind != "choice" or question.measure == "conformity":
        return None
    principle = find_principle(question.of) if question.of else item.principle
    if question.measure == "toxicity":
        name, label = TOXICITY, item.classes[1] if value == YES else CLEAN
    elif principle and principle.risk == "bias" and (question.of or question.measure == "attribute"):
        name, label = (principle.attributes or (principle.id,))[0], value
    else:
        name, label = question.id, value
    return name, CANNOT_TELL if value == UNTOLD else label


def two_labels(answers: Answers, raters: Sequence[int] = ()) -> list[Labels]:
    """What two raters said of every picture that both labelled, by the judge's question.

    Args:
        raters: the two; without any, those who labelled.

    Raises:
        InputError: they are not two, or have no picture in common.
    """
    given: dict[str, dict[str, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    for row in answers.rows:
        if row.kind != RATING or not isinstance(row.value, str):
            continue
        if found := label_of(answers.folder.study.question(row.question), row.item, row.value):
            given[found[0]][row.item.id][row.rater] = found[1]
    who = sorted(raters or {rater for of in given.values() for labels in of.values() for rater in labels})
    if len(who) != 2:
        names = ", ".join(map(rater_name, who)) or "nobody"
        raise InputError(f"two raters are wanted, and {names} labelled here: name two with --raters r001 r002")
    out = []
    for question, of in given.items():
        both = {id: (labels[who[0]], labels[who[1]]) for id, labels in of.items() if labels.keys() >= set(who)}
        if both:
            prompts = [answers.folder.items[id].prompt for id in both]
            alone = sum(len(labels.keys() & set(who)) == 1 for labels in of.values())
            one, other = zip(*both.values(), strict=True)
            out.append(Labels(question, both, alone, agreement(one, other, clusters=prompts)))
    if not out:
        raise InputError(
            f"{' and '.join(map(rater_name, who))} labelled no picture that the other did: let both rate all, with "
            "livo/study/labels.yaml"
        )
    return out


def write_labels(folder: StudyFolder, store: EventSource, out: Path, raters: Sequence[int] = ()) -> list[Labels]:
    """Writes the pictures and `agreement.json`.

    Raises:
        InputError: as `two_labels`; there is something in the folder, a class is no name for one, or it cannot be
            written.
    """
    found = two_labels(read_answers(folder, store), raters)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"there is something in {out} already: give another folder with --out, or remove it")
    for one in found:
        if odd := next((word for word in (one.question, *one.agreed.values()) if Path(word).name != word), None):
            raise InputError(f"{odd!r} of question {one.question} is no name for a folder: a judge has no such class")
    try:
        for one in found:
            for id, label in one.agreed.items():
                place = out / one.question / label
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder.image_path(folder.items[id], veiled=False), place / f"{id}.png")
        figures = {
            one.question: {
                "alike": one.agreement.share.to_json(),
                "kappa": one.agreement.kappa.to_json() if one.agreement.kappa else None,
            }
            for one in found
        }
        (out / FILE).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"the folder {out} cannot be written ({error.strerror or error}): give another") from error
    return found
