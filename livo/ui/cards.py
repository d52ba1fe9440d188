"""Small pieces of HTML: the principle in one line with its evidence and its alternatives, messages, where the
work is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from livo.compare.comparison import ALL_THAT_APPLY, AUTO, NONE, ComparisonRequest
from livo.principles import load_principles
from livo.retriever.reasons import why_not
from livo.types import Evidence, Principle
from livo.ui.templates import render


class Choice(NamedTuple):
    """A button that compares under another principle; `score` is the retriever's, empty where there is none."""

    id: str
    text: str
    score: str


class Against(NamedTuple):
    """Why a principle was not taken."""

    text: str
    reason: str


def highlighted(prompt: str, evidence: Sequence[Evidence]) -> Markup:
    """The prompt, escaped, with the words that decided in <mark>; overlapping ones are merged.

    Example:
        >>> str(highlighted("a <b>doctor</b>", [Evidence("doctor", 5, 11, "an occupation")]))
        'a &lt;b&gt;<mark>doctor</mark>&lt;/b&gt;'
    """
    spans: list[list[int]] = []
    for start, end in sorted((item.start, item.end) for item in evidence):
        if spans and start < spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
    out, at = Markup(), 0
    for start, end in spans:
        out += prompt[at:start] + Markup("<mark>{}</mark>").format(prompt[start:end])
        at = end
    return out + prompt[at:]


def principle_card(request: ComparisonRequest, principles: Sequence[Principle] | None = None) -> Markup:
    """What was retrieved, or chosen, and why; every other principle with its confidence, one click away, and why not.

    Args:
        principles: the whole set; the shipped one without.
    """
    chosen, found = request.principles, request.found
    every = load_principles() if principles is None else principles
    taken = {p.id for p in chosen}
    by_hand = request.chosen_by_hand
    eyebrow = "Principle chosen by you" if by_hand else f"Principle{'s' * (len(chosen) > 1)} retrieved from the prompt"
    reasons = _unique(request.evidence)
    sentences = why_not(found, every)
    return render(
        "principle.html",
        prompt=highlighted(request.prompt, request.evidence),
        name=" and ".join(p.text for p in chosen) or ("none" if by_hand else "no principle applies"),
        why=_why(request, reasons),
        eyebrow=eyebrow,
        effect=_effect(chosen),
        reasons=reasons,
        note=found.note,
        sure=", ".join(f"{p.text} {found.scores.get(p.id, 0.0):.2f}" for p in chosen),
        buttons=_choices(request, every),
        against=[Against(p.text, sentences[p.id]) for p in every if p.id in sentences and p.id not in taken],
    )


def _why(request: ComparisonRequest, reasons: Sequence[Evidence]) -> str:
    """The reason in one phrase, for the line."""
    if request.chosen_by_hand:
        return "chosen by you" if request.principles else "chosen by you: every method draws what the base model draws"
    if reasons:
        return reasons[0].reason
    return "" if request.principles else "every method draws what the base model draws"


def _effect(chosen: Sequence[Principle]) -> str:
    risks = {p.risk for p in chosen}
    if not risks:
        return "Without a principle every method returns what Stable Diffusion draws."
    if risks == {"toxicity"}:
        return "LiVO puts the value before the prompt in every image."
    if len(chosen) > 1:
        return "LiVO puts a value for each before the prompt, those against bias in half of the images each."
    return "LiVO puts the value before the prompt in half of the images, marked v; the others stay as they are."


def _choices(request: ComparisonRequest, principles: Sequence[Principle]) -> list[Choice]:
    found, choice, taken = request.found, request.choice, {p.id for p in request.principles}
    buttons = [
        Choice(p.id, f"{p.text[:1].upper()}{p.text[1:]}", f"{found.scores.get(p.id, 0.0):.2f}")
        for p in principles
        if p.id not in taken or len(taken) > 1
    ]
    if len(found.principles) > 1 and choice != ALL_THAT_APPLY:
        buttons.append(Choice(ALL_THAT_APPLY, f"All {len(found.principles)} that apply", ""))
    if request.chosen_by_hand or len(taken) > 1:
        buttons.append(Choice(AUTO, "The retriever's", ""))
    if taken:
        buttons.append(Choice(NONE, "None", ""))
    return buttons


def message(text: str, kind: str = "error") -> Markup:
    """A message in the page's own words; `kind` is "error" or "note"."""
    return render("message.html", text=text[:1].upper() + text[1:], kind=kind)


def status_line(text: str, *, share: float | None = None, stopped: bool = False) -> Markup:
    """Where the work is; `share` of it, in [0, 1], while it goes on."""
    return render("status.html", text=text, share=share, stopped=stopped)


def _unique(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Each word and reason once, in order."""
    return list({(item.text.lower(), item.reason): item for item in reversed(evidence)}.values())[::-1]
