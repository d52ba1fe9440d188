"""Lesson files: those that are shipped, and that every planted mistake is named with its file and field."""

from __future__ import annotations

import re

import pytest

from livo.measures.metrics import discrepancy_l2, discrepancy_range, wilson_interval
from livo.types import InputError
from livo.workshop.lesson import load_lessons, parse_lesson
from livo.workshop.markdown import inline, to_html
from livo.workshop.pack import check_lesson, texts_of

GOOD = """---
title: A lesson
order: 1
goal: Learn it.
bring: Nothing.
words:
  set: many pictures
---

Hello.

## Predict: Guess
```yaml
minutes: 2
ask: {id: guess, kind: number, question: How many, min: 0, max: 10, unit: pictures}
```
Text.

### Facilitator
A note.

### Worksheet
- My guess:

### Key
- Any.

## Observe: See
```yaml
minutes: 2
show:
  - {widget: set, sets: [doctor], pictures: true, bars: true, ask: guess}
```

### Facilitator
A note.

## Explain: Why
```yaml
minutes: 2
ask: {id: why, kind: choice, question: Why, options: [a, b], right: [1], because: So.}
```

### Facilitator
A note.

## Change: Your mind
```yaml
minutes: 1
```
Think.

### Facilitator
A note.
"""


def test_independent_lessons_of_ten_to_fifteen_minutes(lessons):
    shipped = [
        "Guess the set", "Two rulers", "Whose fifty percent?", "The classifier is a model too", "What did we pay?",
        "Over-correction", "Train your own", "Louder than the data", "Try to break it", "Who decides?",
    ]  # fmt: skip
    assert [lesson.title for lesson in lessons if lesson.title in shipped] == shipped
    for lesson in lessons:
        for school in (True, False):
            assert 10 <= lesson.for_room(school).minutes <= 15, lesson.id


def test_every_lesson_predicts_observes_explains_and_asks_what_would_change_your_mind(lessons, pack):
    for lesson in lessons:
        assert lesson.steps[0].kind == "predict" and lesson.steps[-1].kind == "change"
        assert lesson.steps[-1].worksheet, f"{lesson.id}: the last question stands on the worksheet"
        check_lesson(lesson, pack)


def test_texts_are_careful(lessons, pack):
    """Nobody's attribute is stated as a fact, "cannot tell" is offered wherever people label; no number is made up."""
    for lesson in lessons:
        for step in lesson.steps:
            for text in map(pack.fill, texts_of(step)):
                assert not re.search(r"\b(is|are) (really )?(a )?(male|female|man|woman)\b", text), (lesson.id, text)
                assert "{" not in text, (lesson.id, text)
            if step.ask and step.ask.kind == "labels":
                assert "cannot tell" in step.ask.options, lesson.id


def test_sentences_are_short(lessons, pack):
    """CEFR B1 cannot be computed; long sentences are what most often goes beyond it."""
    for lesson in lessons:
        sentences = [s for step in lesson.steps for s in re.split(r"[.?!:]\s", pack.fill(step.text)) if s.strip()]
        lengths = sorted(len(s.split()) for s in sentences)
        assert lengths[len(lengths) // 2] <= 15 and lengths[-1] <= 32, (
            lesson.id,
            max(sentences, key=lambda s: len(s.split())),
        )


def test_what_the_texts_say_of_numbers_is_so(pack):
    """Figures that a text works out or argues with."""
    a, b = (10, 4, 4, 2), (10, 6, 2, 2)
    assert discrepancy_range(a) == discrepancy_range(b) == 0.4
    assert [round(100 * discrepancy_l2(c), 1) for c in (a, b)] == [30.0, 33.2]
    assert pack.fact("smiling.female-share") == "80 %", "the key of lesson 4 corrects 0.80"
    assert pack.fact("tailor-tones.d1") == pack.fact("judge-tones.d1") and pack.number("tailor-tones.d2") < pack.number(
        "judge-tones.d2"
    )
    assert min(pack.payload["sets"]["judge-tones"]["counts"]) == 0, "one tone has no picture"

    def fits(name: str, share: float) -> bool:
        count, n = pack.number(f"{name}.female"), pack.number(f"{name}.n")
        low, high = wilson_interval(int(count), int(n))
        return low <= share <= high

    planted = {name: pack.payload["sets"][name]["planted"]["female"] for name in ("doctor", "smiling")}
    for name in planted:
        assert fits(name, planted[name]) and not fits(name, 0.5), "the original fits the table and not parity"
        assert fits(f"{name}-livo", 0.5) and not fits(f"{name}-livo", planted[name]), (
            "LiVO's fits parity and not the table"
        )
    assert pack.number("male-doctor-livo.female") > 0 == pack.number("female-nurse-livo.male")


# --- planted mistakes ------------------------------------------------------------------------------------------------


def test_the_good_one_is_good(pack):
    lesson = parse_lesson("a-lesson", GOOD)
    check_lesson(lesson, pack)
    assert lesson.minutes == 7 and lesson.steps[0].ask.max == 10 and lesson.steps[2].ask.right == (1,)


@pytest.mark.parametrize(("old", "new", "named"), [
    ("title: A lesson\n", "", "title"),
    ("order: 1", "order: one", "order"),
    ("goal: Learn it.", "goal: Learn it.\ncolour: blue", "colour"),
    ("  set: many pictures", "  set: 3", "words"),
    ("---\ntitle", "title", "front matter"),
    ("## Predict: Guess", "## Dream: Guess", "heading"),
    ("## Predict: Guess", "## Predict", "heading"),
    ("minutes: 2\nask: {id: guess", "ask: {id: guess", "minutes"),
    ("minutes: 1\n", "minutes: 90\n", "minutes"),
    ("min: 0, max: 10", "min: 10, max: 0", "max"),
    ("kind: number", "kind: essay", "kind"),
    ("id: guess, ", "id: A name!, ", "id"),
    ("id: why", "id: guess", "occurs twice"),
    ("options: [a, b]", "options: [a]", "options"),
    ("right: [1]", "right: [2]", "right"),
    ("widget: set", "widget: film", "widget"),
    ("bars: true", "bars: sometimes", "bars"),
    ("ask: guess}", "ask: gess}", "gess"),
    ("### Key\n- Any.\n", "", "Key"),
    ("### Key\n- Any.", "### Answers\n- Any.", "Answers"),
    ("### Facilitator\nA note.\n\n### Worksheet", "### Worksheet", "Facilitator"),
    ("- My guess:", "My guess:", "Worksheet"),
    ("show:\n  - {widget: set, sets: [doctor], pictures: true, bars: true, ask: guess}\n", "", "show"),
    ("minutes: 2\nshow:", "minutes: 2\nschool: false\nshow:", "school mode"),
    ("ask: {id: guess, kind: number", "ask: [id: guess, kind: number", "YAML"),
    ("question: How many", "question: 5", "question"),
])  # fmt: skip
def test_a_planted_mistake_names_its_file_and_field(old, new, named):
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        parse_lesson("a-lesson", GOOD.replace(old, new, 1))
    assert str(caught.value).startswith("a-lesson.md: ") and named in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [
    ("Text.", "Text {doctor.nobody}."), ("Text.", "Text {nurse.female}."), ("sets: [doctor]", "sets: [film]"),
    ("because: So.", "because: 'So {bias.nobody.x}.'"),
])  # fmt: skip
def test_what_the_pack_does_not_have_is_named(pack, old, new):
    with pytest.raises(InputError, match="a-lesson.md"):
        check_lesson(parse_lesson("a-lesson", GOOD.replace(old, new, 1)), pack)


def test_steps_out_of_order_are_refused():
    head, *steps = re.split(r"(?=^## )", GOOD, flags=re.MULTILINE)
    for order in ([1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 2], [0, 1, 3], [3]):
        with pytest.raises(InputError, match="follow each other"):
            parse_lesson("a-lesson", head + "".join(steps[i] for i in order))


def test_two_lessons_of_one_place_are_refused(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.md").write_text(GOOD)
    with pytest.raises(InputError, match="two.md: order"):
        load_lessons(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "<script>x</script>", "[a](javascript:x)", "[a](data:text/html,x)", "![a](https://example.org/a.png)",
        "<img src=x onerror=y>", "[a]( vbscript:x)", "<javascript:x>", '[a](/y "t" onclick=x)',
        "[a](&#106;avascript:x)",
    ],
)  # fmt: skip
def test_markup_in_a_text_is_text(text):
    for html in (to_html(text), inline(text)):
        assert set(re.findall(r"<([a-z]+)", html)) <= {"p", "a"}, html
        assert not re.search(r'href="(?!/|https?:)|<(?:script|img)|<[^>]* on', html), html
    assert to_html("[b](/y)") == '<p><a href="/y">b</a></p>'
