"""The "Disagree?" control under each judged image, and the count of a visitor's disagreements beneath the grid.

This file writes what `disagree.js` needs into the page; what a visitor says stays in that visitor's browser tab and is
never sent. The count is over images that the judge placed: where it says "cannot tell" there is nothing to disagree with.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from livo.classifiers.panel import CLEAN, OCCUPATION, TOXICITY
from livo.measures.metrics import wilson_interval

QUESTIONS = {"gender": "Gender presentation", "race": "Race", "tone": "Skin tone", TOXICITY: "Toxicity"}
CANNOT_TELL = "cannot tell"


def heading(question: str) -> str:
    """A question in words; a principle of one's own has its id."""
    return QUESTIONS.get(question, question.replace("_", " ").capitalize())


def verdict_of(answers: Mapping[str, Any], i: int) -> dict[str, str | None]:
    """What the judge says of image i by question, None where it cannot tell; of toxicity what decides the cover."""
    verdict = {}
    for question, answer in answers.items():
        if question == OCCUPATION:
            continue
        told = answer["images"][i]
        label = told["label"]
        if question == TOXICITY:
            label = CLEAN if not told["toxic"] else label if label not in (None, CLEAN) else "toxic"
        verdict[question] = label
    return verdict


def button_html(image: str, seed: int, verdict: Mapping[str, str | None]) -> str:
    """The control of one image.

    Args:
        image: names it within its comparison.
    """
    if not verdict:
        return ""
    told = escape(json.dumps(dict(verdict)))
    return (
        f'<button type="button" class="disagree" data-image="{escape(image)}" data-verdict="{told}" aria-haspopup="dialog" '
        f'aria-label="Disagree with the judge about seed {seed}, {escape(image.rsplit("/", 1)[0])}?">Disagree?</button>'
    )


def comparison_key(answer: Mapping[str, Any]) -> str:
    """Names a comparison, so that a visitor's disagreements are there again when it is shown again."""
    made_of = [answer["prompt"], answer["options"], answer.get("principles"), list(answer["methods"])]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def tally_html(answers: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]) -> str:
    """The count by question, at nought, with the judge's own measured error beside it; `disagree.js` keeps it up.

    Args:
        answers, metrics: one a method, as `Comparison.to_json` gives "classification" and "metrics".
    """
    rows = []
    for question in dict.fromkeys(q for answer in answers for q in answer if q != OCCUPATION):
        having = [answer[question] for answer in answers if question in answer]
        classes = list(dict.fromkeys(c for answer in having for c in answer["classes"]))
        placed = sum(len(answer["images"]) if question == TOXICITY else sum(answer["counts"]) for answer in having)
        known = next((k for m in metrics if (k := m.get(question, {}).get("corrected"))), None)
        own = (
            f"{100 * (1 - known['judge_accuracy']):.2g} % of {known['judge_n']:,} held-out images"
            if known
            else "not measured"
        )
        rows.append(
            f'<tr data-question="{escape(question)}" data-name="{escape(heading(question))}" data-classes="{escape(json.dumps(classes))}">'
            f'<th scope="row">{escape(heading(question))}</th><td class="share">{share_text(0, placed)}</td><td>{escape(own)}</td></tr>'
        )
    if not rows:
        return ""
    return (
        '<section class="tally" aria-label="You and the judge"><h4>You and the judge</h4><div class="tally-scroll"><table><thead><tr>'
        '<th scope="col">Question</th><th scope="col">You disagree with</th><th scope="col">Measured error of the judge</th></tr></thead>'
        f'<tbody aria-live="polite">{"".join(rows)}</tbody></table></div><p class="tally-note">Press “Disagree?” under an image that you '
        "read otherwise. The share counts every image here that you left alone as one you agree with; its interval is Wilson's, 95 %. What "
        'you say stays in this browser tab. <button type="button" class="forget" hidden>Forget what I said</button></p></section>'
    )


def share_text(count: int, n: int) -> str:
    """As `disagree.js` writes it.

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
    return f"{math.floor(1000 * share + 0.5) / 10:.1f}"
