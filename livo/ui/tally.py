"""You and the judge: the count of what a visitor reads otherwise, at nought; `viewer.js` keeps it up in the browser.

What a visitor says stays in that visitor's browser tab and is never sent. The count is over images that the judge
placed: where it says "cannot tell" there is nothing to disagree with.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from livo.classifiers.panel import OCCUPATION, TOXICITY
from livo.compare.record import ComparisonRecord
from livo.measures.metrics import wilson_interval
from livo.ui.readout import HEADINGS

NOT_MEASURED = "not measured here"


@dataclass(frozen=True)
class TallyLine:
    """One question: who judges, with the error that was measured, and the count of a visitor's disagreements, at
    nought, which the page's script keeps up.

    Attributes:
        second: the judge beside it; empty where there is none.
    """

    question: str
    name: str
    classes: str
    share: str
    own_error: str
    judge: str
    second: str
    second_error: str


def tally_of(record: ComparisonRecord) -> list[TallyLine]:
    """The count by question, with the judge's own measured error beside it."""
    lines = []
    made = [method for method in record.methods.values() if method.answers]
    for question in dict.fromkeys(q for method in made for q in method.answers if q != OCCUPATION):
        having = [method.answers[question] for method in made if question in method.answers]
        classes = list(dict.fromkeys(name for answer in having for name in answer.classes))
        placed = sum(len(answer.images) if question == TOXICITY else sum(answer.counts) for answer in having)
        known = next((f.corrected for method in made if (f := method.figures.get(question)) and f.corrected), None)
        error = error_text(known.judge_accuracy, known.judge_n) if known else NOT_MEASURED
        two = next((method.agreement[question] for method in made if question in method.agreement), None)
        second, second_error = (two.second, error_text(two.second_accuracy, two.second_n)) if two else ("", "")
        judge = next((method.judges[question] for method in made if question in method.judges), "")
        name = HEADINGS.get(question, question.replace("_", " ").capitalize())
        share = share_text(0, placed)
        lines.append(TallyLine(question, name, json.dumps(classes), share, error, judge, second, second_error))
    return lines


def error_text(accuracy: float | None, n: int) -> str:
    """How often a judge was wrong on images whose labels are known.

    Example:
        >>> error_text(0.981, 3000), error_text(None, 0)
        ('wrong on 1.9 % of 3,000 held-out images', 'not measured here')
    """
    return NOT_MEASURED if accuracy is None else f"wrong on {100 * (1 - accuracy):.2g} % of {n:,} held-out images"


def share_text(count: int, n: int) -> str:
    """As `viewer.js` writes it.

    Example:
        >>> share_text(2, 32), share_text(0, 0)
        ('2 of 32: 6.3 % [1.7, 20.1]', 'no image that it placed')
    """
    if not n:
        return "no image that it placed"
    low, high = wilson_interval(count, n)
    return f"{count} of {n}: {_percent(count / n)} % [{_percent(low)}, {_percent(high)}]"


def _percent(share: float) -> str:
    """One digit, halves upward, as the script rounds."""
    return f"{int(1000 * share + 0.5) / 10:.1f}"


def comparison_key(record: ComparisonRecord) -> str:
    """Names a comparison, so that a visitor's disagreements are there again when it is shown again."""
    options = {**record.to_json()["options"]}
    made_of = [record.prompt, options, [p.id for p in record.principles], list(record.methods)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
