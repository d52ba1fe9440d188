"""The comparison as rows: a method a row, a seed a column, every picture framed by what it is perceived as.

Plain data in, escaped HTML out (`templates/rows.html`). A comparison of 5 x 50 pictures is one component and not 250;
pictures travel inside it as data, so no file name can give anything away.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from markupsafe import Markup
from PIL import Image

from livo.classifiers.answers import CANNOT_TELL, JudgeAnswer
from livo.classifiers.panel import CLEAN, OCCUPATION, TOXICITY
from livo.compare.record import MethodRecord
from livo.presentation.marks import Mark, letters, mark_of
from livo.ui.details import details_html
from livo.ui.readout import Reading, View, reading_of
from livo.ui.tally import TallyLine
from livo.ui.templates import render

WAITING, RUNNING, DONE, FAILED, ABSENT = "waiting", "running", "done", "failed", "absent"
VEIL_SIZE = 6
"""Pixels along a side of what a covered image still shows: colours, no shapes."""


@dataclass(frozen=True)
class Picture:
    """One image of a row.

    Attributes:
        image: (H, W, 3) uint8, or None while there is none.
        alt: what it shows, in words.
        mark: how it is framed; None without a judge.
        flag: what it is covered for; empty for one that is shown.
        note: what the method decided for it.
        answers: what the judge says of it by question, None where it cannot tell.
        second: a second judge's sign; empty without one.
        second_differs: whether it reads the picture otherwise.
    """

    seed: int
    image: np.ndarray | None = None
    alt: str = ""
    mark: Mark | None = None
    flag: str = ""
    veiled: bool = False
    note: str = ""
    answers: Mapping[str, str | None] = field(default_factory=dict)
    second: str = ""
    second_differs: bool = False

    @property
    def sign(self) -> str:
        """The note in a letter or two: "v" for a value token, an arrow and a letter for a direction.

        Example:
            >>> Picture(0, note="value").sign, Picture(0, note="toward female").sign, Picture(0, note="no value").sign
            ('v', '→F', '')
        """
        if self.note in ("", "no value"):
            return ""
        return f"→{self.note.removeprefix('toward ')[:1].upper()}" if self.note.startswith("toward ") else "v"

    @property
    def source(self) -> str:
        """The image as `data:`; of a covered one a few pixels."""
        if self.image is None:
            return ""
        return data_uri(veil(self.image) if self.flag or self.veiled else self.image)

    @property
    def clear_source(self) -> str:
        """The image as it is."""
        return "" if self.image is None else data_uri(self.image)


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        phrase: what kind of method it is, in a few words.
        reason: why there are no pictures, or no figures.
        details: what opens below the row; empty while it runs.
    """

    id: str
    title: str
    phrase: str
    state: str
    pictures: Sequence[Picture] = ()
    reason: str = ""
    reading: Reading | None = None
    details: str = ""


# --- from results to rows --------------------------------------------------------------------------------------------


def finished_row(
    view: View,
    id: str,
    title: str,
    phrase: str,
    record: MethodRecord,
    images: np.ndarray | None,
    notes: Sequence[str] = (),
    base: MethodRecord | None = None,
    covered: Sequence[bool] = (),
) -> Row:
    """A method's row when all is done.

    Args:
        images: (N, H, W, 3) uint8, or None where the method made none.
        notes: per image, or empty.
        base: the base model's record, where this is not it.
        covered: per image, or empty: covered though nothing is said of it.
    """
    if images is None:
        return Row(id, title, phrase, FAILED if record.applies else ABSENT, (), record.reason)
    answers, pictures = record.answers, []
    for i, seed in enumerate(view.seeds):
        note = notes[i] if notes else ""
        if not view.measured:
            cover = "covered" if covered and covered[i] else ""
            pictures.append(Picture(seed, images[i], f"{title}, seed {seed}", None, cover, note=note))
            continue
        mark = mark_of(answers[view.lead], i) if view.lead and view.lead in answers else None
        words, flag = f"{title}, {alt_text(seed, answers, i)}", flag_of(answers, i)
        sign, differs, said = second_sign(record, view.lead, i)
        own = answers_about(answers, i)
        picture = Picture(seed, images[i], words + said, mark, flag, note=note, answers=own)
        pictures.append(replace(picture, second=sign, second_differs=differs))
    reading = reading_of(view, record, base) if view.measured else None
    details = details_html(view, record) if view.measured else Markup()
    return Row(id, title, phrase, DONE, pictures, record.reason, reading, details)


def running_row(
    view: View, id: str, title: str, phrase: str, previews: np.ndarray | None, *, veiled: bool, state: str = RUNNING
) -> Row:
    """A method's row while it denoises; `previews` are (N, h, w, 3) uint8."""
    pictures = [
        Picture(seed, None if previews is None else previews[i], f"{title}, seed {seed}, unfinished", veiled=veiled)
        for i, seed in enumerate(view.seeds)
    ]
    return Row(id, title, phrase, state, pictures)


def flag_of(answers: Mapping[str, JudgeAnswer], i: int) -> str:
    """The toxic kind that the judge sees in image i; empty for a harmless one."""
    if TOXICITY not in answers or not (image := answers[TOXICITY].images[i]).toxic:
        return ""
    return image.label if image.label not in (None, CLEAN) else "toxic"


def second_sign(record: MethodRecord, question: str | None, i: int) -> tuple[str, bool, str]:
    """A second judge's sign for image i, whether it differs, and both in words; nothing where no second was asked."""
    two = record.agreement.get(question or "")
    if two is None or i >= len(two.second_labels):
        return "", False, ""
    answer, label = record.answers[question or ""], two.second_labels[i]
    image = answer.images[i]
    own = ("toxic" if image.toxic else CLEAN) if question == TOXICITY else image.label or CANNOT_TELL
    signs = dict(zip(answer.classes, letters(answer.classes), strict=True)) | {CLEAN: "✓", "toxic": "!"}
    return signs.get(label, "?"), label != own, f"; {two.second} says {label}"


def answers_about(answers: Mapping[str, JudgeAnswer], i: int) -> dict[str, str | None]:
    """What the judge says of image i by question, None where it cannot tell; of toxicity what decides the cover."""
    labels: dict[str, str | None] = {}
    for question, answer in answers.items():
        if question == TOXICITY:
            labels[question] = flag_of(answers, i) or CLEAN
        elif question != OCCUPATION:
            labels[question] = answer.images[i].label
    return labels


def alt_text(seed: int, answers: Mapping[str, JudgeAnswer], i: int) -> str:
    """What the judge says of an image, in words."""
    parts = []
    if occupation := answers.get(OCCUPATION):
        parts.append(f"read as {occupation.images[i].label or 'no known occupation'}")
    if gender := answers.get("gender"):
        label = gender.images[i].label
        parts.append(f"perceived as {label}" if label else "perceived gender: cannot tell")
    if (tone := answers.get("tone")) and tone.images[i].label:
        parts.append(f"{tone.images[i].label} skin")
    return f"seed {seed}: {', '.join(parts)}" if parts else f"seed {seed}"


# --- HTML ------------------------------------------------------------------------------------------------------------


def rows_html(rows: Iterable[Row], *, key: str = "", tally: Sequence[TallyLine] = (), guess: str = "") -> Markup:
    """The whole comparison; what does not apply stands last.

    Args:
        key: names the comparison among a visitor's; without one nothing can be said against the judge.
        tally: the count of disagreements.
        guess: what a visitor is to guess the base model's share of, before the pictures show; empty for no guess.
    """
    ordered = sorted(rows, key=lambda row: row.state == ABSENT)
    covered = sum(bool(picture.flag) for row in ordered for picture in row.pictures)
    most = max((len(row.pictures) for row in ordered), default=0)
    second = any(picture.second for row in ordered for picture in row.pictures)
    return render(
        "rows.html", rows=ordered, covered=covered, most=most, key=key, tally=tally, guess=guess, second=second
    )


def data_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 as `data:`; PNG where small, WebP where a PNG would be large."""
    buffer = io.BytesIO()
    if max(image.shape[:2]) <= 128:
        Image.fromarray(image).save(buffer, "png")
        kind = "png"
    else:
        Image.fromarray(image).save(buffer, "webp", quality=90)
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def veil(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> a few pixels of it, from which nothing can be made out."""
    return np.asarray(Image.fromarray(image).resize((VEIL_SIZE, VEIL_SIZE), Image.Resampling.BOX))
