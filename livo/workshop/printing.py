"""Papers from a lesson file: the facilitator guide, the worksheet and the answer key, as HTML made for printing.

The reader's browser prints it, or saves it as PDF. Everything comes from the same file as the interactive lesson.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from livo.runs import write_whole
from livo.types import InputError
from livo.web.templates import make_environment
from livo.workshop.lesson import Lesson, SetWidget
from livo.workshop.markdown import inline, to_html
from livo.workshop.pack import Pack
from livo.workshop.room import Room
from livo.workshop.tallies import closed_questions, tally_rows
from livo.workshop.translations import speaker

HERE = Path(__file__).parent
STYLE = HERE / "web" / "print.css"
TEMPLATES = make_environment(HERE / "templates")
PAPERS = {"guide": "Facilitator guide", "worksheet": "Worksheet", "key": "Answer key"}
ROOMY = 7
"""So many questions and predictions need a second page."""
KINDS = {"predict": "Predict", "observe": "Observe", "explain": "Explain", "change": "What would change your mind?"}


def paper_html(
    what: str, lesson: Lesson, pack: Pack, style: str | None = None, pictures: str | None = None, language: str = ""
) -> str:
    """One paper as a page of HTML.

    Args:
        what: of `PAPERS`.
        style: address of the style sheet; it is written into the page where there is none.
        pictures: the same for sheets, their address up to the name.
        language: of its headings; the lesson brings its own words.
    """

    def address(sheet: str) -> str:
        if pictures is not None:
            return pictures + sheet
        return f"data:image/webp;base64,{base64.b64encode((pack.folder / sheet).read_bytes()).decode()}"

    say = speaker(language)
    return TEMPLATES.get_template(f"{what}.html").render(
        lesson=lesson, pack=pack, pictured=_pictured, paper=say(PAPERS[what]), kind=_kind(what, lesson),
        kinds={kind: say(words) for kind, words in KINDS.items()}, say=say, language=language or "en",
        style=style, address=address, fact=pack.fact,
        css=None if style else Markup(STYLE.read_text(encoding="utf-8")), words=pack.fill,
        line=lambda text: inline(pack.fill(text)), text=lambda text: to_html(pack.fill(text)),
    )  # fmt: skip


def _kind(what: str, lesson: Lesson) -> str:
    """A worksheet has one page, or two that are well filled: with room to write where the second would be bare."""
    blocks = sum(len(step.worksheet) + (step.kind == "predict") for step in lesson.steps)
    return f"{what} roomy" if what == "worksheet" and blocks >= ROOMY and not _pictured(lesson) else what


def _pictured(lesson: Lesson) -> list[str]:
    """Sets whose pictures the lesson shows, in their order."""
    shown = [widget for step in lesson.steps for widget in step.show if isinstance(widget, SetWidget)]
    return list(dict.fromkeys(name for widget in shown if widget.pictures for name in widget.sets))


def recap_html(room: Room, pack: Pack, words: Mapping[str, Lesson] | None = None, language: str = "") -> str:
    """What a class saw and answered, as one page that opens without a network: counts only, of five people or more.

    Args:
        words: lessons in the reader's language, by id; those that are not there are English.
        language: of the page.
    """
    say = speaker(language)
    questions = [(one, tally_rows([], one.ask, one.tally, say)) for one in closed_questions(room, pack, words)]
    sheets = {name: base64.b64encode((pack.folder / name).read_bytes()).decode() for name in _seen(room, pack)}
    return TEMPLATES.get_template("recap.html").render(
        lessons=list(dict.fromkeys(one.lesson.title for one, _ in questions)), questions=questions, sheets=sheets,
        pack=pack, paper=say("Recap of our lesson"), style=None, css=Markup(STYLE.read_text(encoding="utf-8")),
        say=say, language=language or "en",
        line=lambda text: inline(pack.fill(text)), text=lambda text: to_html(pack.fill(text)),
    )  # fmt: skip


def _seen(room: Room, pack: Pack) -> list[str]:
    """Sheets of pictures of the lessons that ran, in their order."""
    lessons = dict.fromkeys(one.lesson.id for one in closed_questions(room, pack))
    names = [name for id in lessons for name in _pictured(room.lessons[id].for_room(room.school))]
    return list(dict.fromkeys(str(pack.of("sets", name)["sheet"]) for name in names))


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
