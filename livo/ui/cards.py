"""Small pieces of escaped HTML: the principle with its evidence and its alternatives, messages, where the work is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from livo.compare import ALL_THAT_APPLY, AUTO, NONE
from livo.principles import load_principles
from livo.retriever.reasons import why_not
from livo.types import Evidence, Principle, Retrieval


def highlighted(prompt: str, evidence: Sequence[Evidence]) -> str:
    """The prompt, escaped, with the words that decided in <mark>; overlapping ones are merged.

    Example:
        >>> highlighted("a <b>doctor</b>", [Evidence("doctor", 5, 11, "an occupation")])
        'a &lt;b&gt;<mark>doctor</mark>&lt;/b&gt;'
    """
    spans: list[list[int]] = []
    for start, end in sorted((item.start, item.end) for item in evidence):
        if spans and start < spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
    parts, at = [], 0
    for start, end in spans:
        parts += [escape(prompt[at:start]), f"<mark>{escape(prompt[start:end])}</mark>"]
        at = end
    return "".join(parts) + escape(prompt[at:])


def principle_card(
    prompt: str, found: Retrieval, choice: str = AUTO, chosen: Sequence[Principle] = (), unknown_words: Sequence[str] = (),
    principles: Sequence[Principle] | None = None,
) -> str:  # fmt: skip
    """What was retrieved, or chosen, and why; every other principle with its confidence, one click away, and why not.

    Args:
        found: the retriever's answer, also where a person chose.
        choice: as `choose_principle` takes it.
        chosen: the principles that are applied.
        unknown_words: words of the prompt that the model does not know.
        principles: the whole set; the shipped one without.
    """
    by_itself = choice in (AUTO, ALL_THAT_APPLY)
    if by_itself:
        eyebrow = f"Principle{'s' if len(chosen) > 1 else ''} retrieved from the prompt"
    else:
        eyebrow = "Principle chosen by you"
    name = " and ".join(p.text for p in chosen) or ("no principle applies" if by_itself else "none")
    risks = "".join(
        f'<span class="risk {risk}">against {risk}</span>' for risk in dict.fromkeys(p.risk for p in chosen)
    )
    evidence = found.evidence if by_itself else ()
    reasons = "".join(f"<li><b>{escape(item.text)}</b> {escape(item.reason)}</li>" for item in _unique(evidence))
    reasons = f'<ul class="evidence">{reasons}</ul>' if reasons else ""
    note = f'<p class="effect">{escape(found.note)}</p>' if found.note else ""
    return (
        f'<section class="card"><p class="eyebrow">{eyebrow}</p><h2>{escape(name)}{risks}</h2>'
        f'<p class="prompt"><bdi>{highlighted(prompt, evidence)}</bdi></p>{reasons}<p class="effect">{_effect(chosen)}</p>{note}'
        f"{alternatives_html(found, choice, chosen, load_principles() if principles is None else principles)}</section>"
        + unknown_words_note(unknown_words)
    )


def _effect(chosen: Sequence[Principle]) -> str:
    risks = {p.risk for p in chosen}
    if not risks:
        return "No method changes anything then: all draw exactly what Stable Diffusion draws."
    if risks == {"toxicity"}:
        return "LiVO puts the value before the prompt in every image."
    if len(chosen) > 1:
        return "LiVO puts a value for each before the prompt, those against bias in half of the images each."
    return "LiVO puts the value before the prompt in half of the images, marked “value”; the others stay as they are."


def alternatives_html(
    found: Retrieval, choice: str, chosen: Sequence[Principle], principles: Sequence[Principle]
) -> str:
    """Every principle with the retriever's confidence as a button that compares under it instead, and why it was not taken."""
    taken = {p.id for p in chosen}
    buttons = [
        (p.id, f"{p.text[:1].upper()}{p.text[1:]}", f"{found.scores.get(p.id, 0.0):.2f}")
        for p in principles
        if p.id not in taken or len(taken) > 1
    ]
    if len(found.principles) > 1 and choice != ALL_THAT_APPLY:
        buttons.append((ALL_THAT_APPLY, f"All {len(found.principles)} that apply", ""))
    if choice not in (AUTO, ALL_THAT_APPLY) or len(taken) > 1:
        buttons.append((AUTO, "The retriever's", ""))
    if taken:
        buttons.append((NONE, "None", ""))
    row = "".join(
        f'<button type="button" class="choose" data-principle="{escape(id)}" aria-label="Compare under: {escape(text)}'
        f'{f", confidence {score}" if score else ""}">{escape(text)}{f" <b>{score}</b>" if score else ""}</button>'
        for id, text, score in buttons
    )
    sure = [f"{p.text} {found.scores.get(p.id, 0.0):.2f}" for p in chosen]
    told = f"Confidence of the retriever: {escape(', '.join(sure))}. " if sure else ""
    reasons = why_not(found, principles)
    rows = "".join(
        f"<li><b>{escape(p.text)}</b> {escape(reasons[p.id])}</li>"
        for p in principles
        if p.id in reasons and p.id not in taken
    )
    why = (
        f'<details class="why-not"><summary>Why not the others?</summary><ul class="reasons">{rows}</ul></details>'
        if rows
        else ""
    )
    return f'<div class="instead"><p>{told}Compare under another:</p><div>{row}</div></div>{why}'


def unknown_words_note(words: Sequence[str], most: int = 8) -> str:
    """Says which words the model never saw; nothing where it knows them all."""
    if not words:
        return ""
    shown = ", ".join(f"‘<bdi>{escape(word)}</bdi>’" for word in words[:most])
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return (
        f'<p class="message note" role="note">The drawn world does not know {shown}{more}. '
        "It reads unknown words letter by letter and can only guess.</p>"
    )


def message(text: str, kind: str = "error") -> str:
    """A message in the page's own words; `kind` is "error" or "note"."""
    role = "alert" if kind == "error" else "note"
    return f'<p class="message {kind}" role="{role}">{escape(text[:1].upper() + text[1:])}</p>'


def status_line(text: str, *, share: float | None = None, stopped: bool = False) -> str:
    """Where the work is. It is announced when it ends, not at every step."""
    if share is not None:
        return (
            f'<div class="status" aria-live="off"><span>{escape(text)}</span>'
            f'<progress max="1" value="{share:.3f}" aria-label="Progress"></progress></div>'
        )
    return f'<div class="status{" stopped" if stopped else ""}" role="status"><span>{escape(text)}</span></div>'


def _unique(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Each word and reason once, in order."""
    return list({(item.text.lower(), item.reason): item for item in reversed(evidence)}.values())[::-1]
