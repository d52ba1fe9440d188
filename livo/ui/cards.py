"""Small pieces of escaped HTML: the principle with its evidence, messages, the head of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from livo.compare import AUTO, NONE
from livo.types import Evidence, Principle


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
    prompt: str,
    principle: Principle | None,
    evidence: Sequence[Evidence],
    choice: str = AUTO,
    unknown_words: Sequence[str] = (),
) -> str:
    """What was retrieved, or chosen, and why; with the words that the model does not know."""
    if choice == AUTO:
        eyebrow = "Principle retrieved from the prompt"
        name = principle.text if principle else "no principle applies"
    else:
        eyebrow = "Principle chosen by you"
        name = principle.text if principle and choice != NONE else "none"
    risk = f'<span class="risk {principle.risk}">against {principle.risk}</span>' if principle else ""
    reasons = "".join(f"<li><b>{escape(item.text)}</b> {escape(item.reason)}</li>" for item in _unique(evidence))
    reasons = f'<ul class="evidence">{reasons}</ul>' if reasons else ""
    effect = ""
    if principle is None:
        effect = "No method changes anything then: all draw exactly what Stable Diffusion draws."
    elif principle.risk == "bias":
        effect = "LiVO puts the value before the prompt in half of the images, marked “value”; the others stay as they are."
    else:
        effect = "LiVO puts the value before the prompt in every image."
    return (
        f'<section class="card"><p class="eyebrow">{eyebrow}</p><h2>{escape(name)}{risk}</h2>'
        f'<p class="prompt"><bdi>{highlighted(prompt, evidence)}</bdi></p>{reasons}<p class="effect">{effect}</p></section>'
        + unknown_words_note(unknown_words)
    )


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
