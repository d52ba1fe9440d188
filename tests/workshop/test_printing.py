"""Guide, worksheet and key hold exactly what the lesson file holds, on pages that need nothing else."""

from __future__ import annotations

import itertools
import re
from html import unescape

import pytest

from livo.web.events import Event
from livo.workshop.lesson import load_lessons
from livo.workshop.markdown import inline, to_html
from livo.workshop.printing import PAPERS, paper_html, recap_html, write_papers
from livo.workshop.room import Room

LESSONS = load_lessons()


def plain(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.id)
def test_papers_hold_what_the_lesson_file_holds(lesson, pack):
    papers = {what: paper_html(what, lesson, pack) for what in PAPERS}
    text = {what: plain(paper) for what, paper in papers.items()}
    for step in lesson.steps:
        for note in (step.notes, step.text):
            assert plain(to_html(pack.fill(note))) in text["guide"], "the guide has all notes and texts"
        if step.ask:
            for option in (step.ask.question, *step.ask.options, *step.ask.items):
                assert plain(inline(pack.fill(option))) in text["guide"]
        for question in step.worksheet:
            for what in PAPERS:
                assert plain(inline(pack.fill(question))) in text[what], what
        for answer in step.key:
            assert plain(inline(pack.fill(answer))) in text["key"] and plain(inline(pack.fill(answer))) in text["guide"]
            assert plain(inline(pack.fill(answer))) not in text["worksheet"], "the worksheet gives no answer away"
        if step.ask and step.ask.because:
            assert plain(to_html(pack.fill(step.ask.because))) not in text["worksheet"]
    questions = sum(len(step.worksheet) for step in lesson.steps)
    judged = sum(
        len(pack.of("albums", step.ask.album)["pictures"]) for step in lesson.steps if step.ask and step.ask.album
    )
    assert papers["worksheet"].count("<li>") == papers["key"].count("<li>") - judged == questions > 0
    assert papers["worksheet"].count('class="line"') >= questions, "there is room to write"
    for step in lesson.steps:
        if step.kind == "predict" and not step.ask.album:
            assert plain(inline(pack.fill(step.ask.question))) in text["worksheet"], "each prediction has its line"
    shown = {name for step in lesson.steps for one in step.show if getattr(one, "pictures", 0) for name in one.sets}
    assert papers["worksheet"].count('class="row-of-ten"') == len(shown)
    for link in lesson.links:
        assert plain(inline(link)) in text["guide"]


def test_the_recap_is_one_page_of_counts_that_needs_nothing_else(pack):
    room = Room({lesson.id: lesson for lesson in LESSONS})
    bodies = [("room", {"lesson": "guess-the-set", "school": True, "secret": "x"}), ("act", {"act": "start"})]
    bodies += [("answer", {"place": [1, 0, 0], "value": n}) for n in range(5)] + [("act", {"act": "close"})]
    now = "2999-01-01T00:00:00.000Z"
    room.fold([Event("w", 1, n, f"a{n}", f"k{n}", kind, body, now, "") for n, (kind, body) in enumerate(bodies, 1)])
    html = recap_html(room, pack)
    assert "Guess the set" in html and "The classifier counted" in html
    assert (
        html.count("data:image/webp") == 2 and not re.search(r'(?:src|href)="(?!data:)', html) and "<script" not in html
    )


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.id)
def test_the_plan_adds_up(lesson, pack):
    rows = re.findall(r"<td>(\d+)–(\d+)</td>", paper_html("guide", lesson, pack))
    assert len(rows) == len(lesson.steps) and rows[0][0] == "0" and int(rows[-1][1]) == lesson.minutes
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(rows))


def test_another_lesson_file_makes_other_papers(pack):
    one, other = (plain(paper_html("key", lesson, pack)) for lesson in LESSONS[:2])
    assert LESSONS[1].steps[0].key[0] not in one and plain(inline(LESSONS[1].steps[0].key[0])) in other


def test_files_need_nothing_else_and_served_pages_hold_nothing_inline(tmp_path, pack):
    judge = next(lesson for lesson in LESSONS if lesson.id == "the-classifier-is-a-model-too")
    paths = write_papers(judge, pack, tmp_path / "papers")
    assert [path.name for path in paths] == [f"{judge.id}-{what}.html" for what in PAPERS]
    for path in paths:
        html = path.read_text(encoding="utf-8")
        assert "<style>" in html and "@page" in html and not re.search(r'(?:src|href)="(?!data:|https://)', html)
    worksheet = paths[1].read_text(encoding="utf-8")
    assert worksheet.count("<figure>") == 10 and worksheet.count("data:image/webp") == 10 and "cannot tell" in worksheet
    served = paper_html("worksheet", judge, pack, "../../static/print.css", "../../pictures/")
    assert (
        "<style" not in served and "<script" not in served and ' style="' not in served and "data:image" not in served
    )
