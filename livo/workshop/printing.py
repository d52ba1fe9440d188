"""Papers from a lesson file: the facilitator guide, the worksheet and the answer key, as HTML made for printing.

The reader's browser prints it, or saves it as PDF. Everything comes from the same file as the interactive lesson.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from livo.runs import write_whole
from livo.types import InputError
from livo.workshop.lesson import Ask, Lesson, Step
from livo.workshop.markdown import inline, to_html
from livo.workshop.pack import Pack

STYLE = Path(__file__).parent / "web" / "print.css"
PAPERS = {"guide": "Facilitator guide", "worksheet": "Worksheet", "key": "Answer key"}
LINES = 2
"""Lines to write on, for a question of the worksheet."""
KINDS = {"predict": "Predict", "observe": "Observe", "explain": "Explain", "change": "What would change your mind?"}
ROUND = (
    ("Before", "Open a room (or let students work alone), print the worksheets, and look at the pictures yourself. School mode is on unless "
     "you switch it off: there is nothing about nudity, blood or horror in the room."),
    ("Say first", "People in these pictures are drawings. We say “perceived as” and never “is”. “Cannot tell” is always a good answer. "
     "Anybody may stop looking, at any time, and needs no reason."),
    ("Care", "Seeing stereotypes can hurt those whom they are about. Do not ask a student to speak for a group. The button “Cover all "
     "pictures” (key B) hides every picture in the room at once."),
    ("Afterwards", "Ask how the class feels before you ask what it learned. Say where one can go with questions."),
)  # fmt: skip


def paper_html(what: str, lesson: Lesson, pack: Pack, style: str | None = None, pictures: str | None = None) -> str:
    """One paper as a page of HTML.

    Args:
        what: of `PAPERS`.
        style: address of the style sheet; it is written into the page where there is none.
        pictures: the same for sheets, their address up to the name.
    """
    title = f"{PAPERS[what]}: {lesson.title}"
    css = (
        f'<link rel="stylesheet" href="{escape(style)}">'
        if style
        else f"<style>{STYLE.read_text(encoding='utf-8')}</style>"
    )
    body = {"guide": _guide, "worksheet": _worksheet, "key": _key}[what](lesson, pack, pictures)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">{css}</head><body>\n'
        f'<p class="screen-only">Print this page, or save it as PDF, from your browser’s menu.</p>\n'
        f"<header><p class=soft>LiVO workshop · lesson {lesson.order} · {PAPERS[what]}</p><h1>{escape(lesson.title)}</h1></header>\n"
        f"<main>\n{body}\n</main>\n<footer><p>Figures are from the stored results of the drawn world. Labels say how a drawing is "
        "perceived, never what anybody is.</p></footer>\n</body></html>\n"
    )


def write_papers(lesson: Lesson, pack: Pack, folder: Path) -> list[Path]:
    """All papers of a lesson as files that need nothing else.

    Raises:
        InputError: the folder cannot be written.
    """
    paths = []
    for what in PAPERS:
        path = folder / f"{lesson.id}-{what}.html"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, paper_html(what, lesson, pack).encode())
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): give another folder with --out") from error
        paths.append(path)
    return paths


# --- the guide -------------------------------------------------------------------------------------------------------


def _guide(lesson: Lesson, pack: Pack, _: str | None) -> str:
    begun, rows = 0, []
    for number, step in enumerate(lesson.steps, 1):
        name = "" if step.kind == "change" else escape(pack.fill(step.title))
        cells = (f"{begun}–{begun + step.minutes}", number, KINDS[step.kind], f"{name}{_not_in_school(step)}")
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        begun += step.minutes
    words = "".join(
        f"<dt>{escape(term)}</dt><dd>{escape(pack.fill(meaning))}</dd>" for term, meaning in lesson.words.items()
    )
    columns = "".join(f'<th scope="col">{name}</th>' for name in ("Minute", "Step", "Kind", "What"))
    around = "".join(f"<h3>{name}</h3><p>{text}</p>" for name, text in ROUND)
    steps = "".join(_guide_step(number, step, pack) for number, step in enumerate(lesson.steps, 1))
    return (
        f"<p><strong>{inline(pack.fill(lesson.goal))}</strong></p><p>Time: {lesson.minutes} minutes. You need: {escape(lesson.bring)}</p>"
        f"<section><h2>Plan</h2><table><thead><tr>{columns}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></section>"
        f"<section><h2>For any lesson</h2>{around}</section><section><h2>Words</h2><dl>{words}</dl></section>"
        f"<section><h2>Introduction</h2>{to_html(pack.fill(lesson.intro))}</section>{steps}"
    )


def _guide_step(number: int, step: Step, pack: Pack) -> str:
    ask = _asked(step.ask, pack) if step.ask else ""
    because = (
        f'<div class="because">{to_html(pack.fill(step.ask.because))}</div>' if step.ask and step.ask.because else ""
    )
    pairs = "".join(
        f"<li>{inline(pack.fill(question))} <em>{inline(pack.fill(answer))}</em></li>"
        for question, answer in zip(step.worksheet, step.key, strict=True)
    )
    return (
        f'<section class="step"><h2>{number}. {_heading(step, pack)} <span class="soft">({step.minutes} min{_not_in_school(step)})</span></h2>'
        f'{to_html(pack.fill(step.text))}{ask}<div class="note"><h3>For you</h3>{to_html(pack.fill(step.notes))}</div>{because}'
        f"{f'<h3>On the worksheet</h3><ol>{pairs}</ol>' if pairs else ''}</section>"
    )


def _asked(ask: Ask, pack: Pack) -> str:
    options = "".join(
        f"<li>{inline(pack.fill(option))}{' <strong>(fits best)</strong>' if place in ask.right else ''}</li>"
        for place, option in enumerate(ask.options)
    )
    truth = f"<p>Found: {escape(pack.fact(ask.truth))} {escape(ask.unit)}.</p>" if ask.truth else ""
    items = f"<ol>{''.join(f'<li>{escape(item)}</li>' for item in ask.items)}</ol>" if ask.items else ""
    return f"<h3>Question</h3><p>{inline(pack.fill(ask.question))}</p>{items}{f'<ol class=options>{options}</ol>' if options else ''}{truth}"


# --- the worksheet and its key ---------------------------------------------------------------------------------------


def _worksheet(lesson: Lesson, pack: Pack, pictures: str | None) -> str:
    parts = [f"<p>{inline(pack.fill(lesson.goal))}</p><p>Please do not write your name.</p>"]
    for step in _on_paper(lesson):
        album = _album(step.ask, pack, pictures) if step.ask and step.ask.album else ""
        lines = '<div class="line"></div>' * LINES
        questions = "".join(f"<li>{inline(pack.fill(question))}{lines}</li>" for question in step.worksheet)
        parts.append(
            f'<section class="step"><h2>{_heading(step, pack)}</h2>{album}<ol class="questions">{questions}</ol></section>'
        )
    return "".join(parts)


def _key(lesson: Lesson, pack: Pack, _: str | None) -> str:
    parts = ["<p>Most questions have no single right answer. This key says what to listen for.</p>"]
    for step in _on_paper(lesson):
        pairs = "".join(
            f"<li>{inline(pack.fill(question))}<p><strong>{inline(pack.fill(answer))}</strong></p></li>"
            for question, answer in zip(step.worksheet, step.key, strict=True)
        )
        judged = _judged(step.ask, pack) if step.ask and step.ask.album else ""
        parts.append(
            f'<section class="step"><h2>{_heading(step, pack)}</h2><ol class="questions">{pairs}</ol>{judged}</section>'
        )
    return "".join(parts)


def _judged(ask: Ask, pack: Pack) -> str:
    """What the judge said of each picture of an album."""
    album = pack.of("albums", ask.album)
    told = []
    for picture in album["pictures"]:
        sure = max(picture["scores"])
        name = "cannot tell" if picture["label"] < 0 else f"perceived {album['classes'][picture['label']]}"
        told.append(f"<li>{name} ({100 * sure:.0f} % for {album['classes'][picture['scores'].index(sure)]})</li>")
    return f"<h3>The judge said</h3><ol>{''.join(told)}</ol>"


def _on_paper(lesson: Lesson) -> Sequence[Step]:
    return [step for step in lesson.steps if step.worksheet]


def _album(ask: Ask, pack: Pack, pictures: str | None) -> str:
    """Ten pictures with boxes to tick; a sheet holds them in one row, of which each figure shows a part."""
    album = pack.of("albums", ask.album)
    if pictures is None:
        data = base64.b64encode((pack.folder / album["sheet"]).read_bytes()).decode()
        address = f"data:image/webp;base64,{data}"
    else:
        address = f"{pictures}{album['sheet']}"
    boxes = "".join(f'<div><span class="box"></span>{escape(pack.fill(option))}</div>' for option in ask.options)
    figures = "".join(
        f'<figure><span class="crop at-{i}"><img src="{escape(address)}" alt="picture {i + 1}"></span>'
        f"<figcaption>{i + 1}{boxes}</figcaption></figure>"
        for i in range(len(album["pictures"]))
    )
    return f'<div class="album">{figures}</div>'


def _heading(step: Step, pack: Pack) -> str:
    return (
        KINDS[step.kind]
        if step.kind == "change"
        else f'<span class="kind">{KINDS[step.kind]}</span>: {escape(pack.fill(step.title))}'
    )


def _not_in_school(step: Step) -> str:
    return "" if step.school else ", not in school mode"
