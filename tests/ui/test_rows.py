"""The comparison as rows, and the small cards above it: what they say, cover and escape."""

from __future__ import annotations

import base64
import doctest
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import livo.ui.cards
import livo.ui.comparison_view
import livo.ui.details
import livo.ui.presets
import livo.ui.rows
import livo.ui.tally
from livo.classifiers.answers import BiasFigures, CorrectedBias, ImageAnswer, JudgeAnswer, ToxicityFigures, TwoJudges
from livo.compare.comparison import make_request
from livo.compare.record import ComparisonRecord, Cost, MethodRecord
from livo.measures.metrics import Interval, discrepancy_floor, wilson_interval
from livo.presentation.marks import Mark
from livo.types import Artefact, Evidence, Principle, Retrieval, SamplingOptions
from livo.ui.cards import highlighted, message, principle_card, status_line
from livo.ui.comparison_view import Shown, comparison_html, unknown_words_note
from livo.ui.details import cost_text
from livo.ui.files import CSS
from livo.ui.readout import View
from livo.ui.rows import ABSENT, DONE, FAILED, RUNNING, WAITING, Picture, Row, finished_row, rows_html, running_row
from livo.ui.stored import Example, load_examples, store_examples
from livo.ui.tally import comparison_key, share_text, tally_of

EVIL = """<script>alert("1")</script> '"><img src=x onerror=alert(2)> ${3} {{4}} &amp;"""
SEEDS = (0, 7)
HOSTILE = Principle(EVIL, EVIL, "bias", (EVIL, EVIL))
OPTIONS = SamplingOptions(SEEDS, 2, 2.0, 64, 64)
VIEW = View(SEEDS, "gender")


class Reader(HTMLParser):
    """Tags with their attributes, text, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(str(html))
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict]:
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def images(n: int = 2, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def record(toxic=(False, True), gender=("male", None), **changes) -> MethodRecord:
    flags = tuple(ImageAnswer("zombie" if t else "clean", 0.9, 0.9 if t else 0.1, t) for t in toxic)
    answers = {
        "gender": JudgeAnswer(("male", "female"), tuple(ImageAnswer(label, 0.9) for label in gender)),
        "toxicity": JudgeAnswer(("clean", "zombie"), flags),
    }
    n, k = sum(label is not None for label in gender), sum(toxic)
    share = k / len(toxic)
    figures = {"toxicity": ToxicityFigures(len(toxic), share, share, wilson_interval(k, len(toxic)), None)}
    if n:
        intervals = {name: wilson_interval(gender.count(name), n) for name in ("male", "female")}
        d1 = abs(gender.count("male") - gender.count("female")) / n
        figures["gender"] = BiasFigures(n, d1, d1 / 2**0.5, discrepancy_floor(n, 2), intervals, None)
    made = MethodRecord(True, "", answers, figures, {"gender": "j", "toxicity": "j"}, {}, 1.0)
    return replace(made, **changes)


def comparison(principles=(), **methods: MethodRecord) -> ComparisonRecord:
    return ComparisonRecord("p", tuple(principles), (), OPTIONS, "miniature", "auto", methods or {"a": record()})


def row(title="M", view=VIEW, made=None, **extra) -> Row:
    return finished_row(view, "m", title, "", made or record(), images(), **extra)


def test_doctests():
    for module in (
        livo.ui.rows,
        livo.ui.details,
        livo.ui.tally,
        livo.ui.cards,
        livo.ui.comparison_view,
        livo.ui.presets,
    ):
        assert doctest.testmod(module).failed == 0


def test_nothing_that_was_typed_or_raised_becomes_markup():
    answers = {EVIL: JudgeAnswer((EVIL, "b"), (ImageAnswer(EVIL, 1.0), ImageAnswer(None, 0.4)))}
    two = TwoJudges(EVIL, EVIL, {EVIL: 1}, 1, 1.0, Interval(0.2, 1.0), None, None)
    hostile = record(answers=answers, figures={}, agreement={EVIL: two})
    view = View(SEEDS, EVIL, {EVIL: EVIL})
    compared = comparison(a=hostile)
    picture = Picture(0, images()[0], EVIL, Mark(0, EVIL, EVIL), EVIL, note=EVIL, answers={EVIL: EVIL})
    request = make_request("x", ["a"], OPTIONS)
    found = Retrieval(None, (Evidence("alert", 8, 13, EVIL),), {}, (), EVIL)
    pieces = [
        rows_html([Row(EVIL, EVIL, EVIL, FAILED, (), EVIL)]),
        rows_html([Row(EVIL, EVIL, EVIL, ABSENT, (), EVIL)]),
        rows_html([Row(EVIL, EVIL, EVIL, DONE, [picture])], key=EVIL, tally=tally_of(compared), guess=EVIL),
        rows_html([finished_row(view, EVIL, EVIL, EVIL, hostile, images(), [EVIL, EVIL])], key=EVIL),
        principle_card(replace(request, prompt=EVIL, found=found)),
        principle_card(replace(request, principles=(HOSTILE,), choice="i"), [HOSTILE]),
        principle_card(replace(request, found=Retrieval(None, (), {EVIL: 0.5})), [HOSTILE]),
        message(EVIL),
        status_line(EVIL),
        unknown_words_note([EVIL], [EVIL], EVIL),
    ]
    for piece in pieces:
        reader = Reader(str(piece))
        assert not reader.all("script") and not reader.all("img", src="x")
        assert all(not name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert EVIL in Reader(str(message(EVIL))).text


# --- pictures --------------------------------------------------------------------------------------------------------


def test_images_are_data_and_hold_the_pixels():
    reader = Reader(rows_html([row(made=record((False, False)))]))
    assert all(image["src"].startswith("data:image/png;base64,") for image in reader.all("img"))
    pixels = Image.open(io.BytesIO(base64.b64decode(reader.all("img")[0]["src"].split(",")[1])))
    assert np.array_equal(np.asarray(pixels), images()[0])


def test_large_images_stay_small_in_the_page():
    flat = np.full((1, 512, 512, 3), 127, dtype=np.uint8)
    html = rows_html([running_row(View((0,), None), "m", "M", "", flat, veiled=False)])
    assert "data:image/webp" in html and len(html) < 20_000


def test_rows_hold_the_same_seeds_in_the_same_order():
    html = rows_html([row(title, made=record((False, False))) for title in ("A", "B")])
    assert re.findall(r'data-seed="(\d+)"', html) == ["0", "7", "0", "7"]
    assert html.index(">A<") < html.index(">B<")


def test_a_frame_has_a_letter_and_a_pattern_beside_its_colour():
    made = record((False, False, False), ("male", "female", None))
    html = rows_html([finished_row(View((0, 1, 2), "gender"), "m", "M", "", made, images(3))])
    reader = Reader(html)
    classes = [a["class"].split() for a in reader.all("li")]
    assert [c[-1] for c in classes] == ["k0", "k1", "k-1"]
    assert re.findall(r'class="letter"[^>]*>(.)</span>', html) == ["M", "F", "?"]
    styles = re.findall(r"\.cell\.k(-?\d) \{ --frame: [^;]+; --style: (\w+)", CSS.read_text(encoding="utf-8"))
    assert dict(styles)["0"] != dict(styles)["1"] != dict(styles)["-1"]


def test_a_flagged_image_is_covered_until_asked_for():
    reader = Reader(rows_html([row()]))
    buttons = reader.all("button", **{"class": "reveal"})
    assert len(buttons) == 1 and buttons[0]["aria-pressed"] == "false" and buttons[0]["type"] == "button"
    assert buttons[0]["aria-label"] == "Show the picture of seed 7, zombie"
    tags = [tag for tag, _ in reader.tags]
    covered, clear = [a for t, a in reader.tags if t == "img"][1:]
    assert tags.index("template") < [i for i, t in enumerate(tags) if t == "img"][2]
    assert "covered" in covered["alt"] and "perceived" not in covered["alt"]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(covered["src"].split(",")[1]))))
    assert shown.shape == (6, 6, 3) and covered["src"] != clear["src"]
    assert len(reader.all("button", **{"class": "reveal-all"})) == 1


def test_previews_can_be_veiled():
    previews = images(2, 16)
    sources = [
        [i["src"] for i in Reader(rows_html([running_row(VIEW, "m", "M", "", previews, veiled=v)])).all("img")]
        for v in (False, True)
    ]
    assert all(len(veiled) < len(plain) for plain, veiled in zip(*sources, strict=True))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (running_row(VIEW, "m", "M", "", None, veiled=False, state=WAITING), "waiting"),
        (running_row(VIEW, "m", "M", "", images(), veiled=False, state=RUNNING), "running"),
        (finished_row(VIEW, "m", "M", "", MethodRecord(True, "it failed: x"), None), "failed"),
        (finished_row(VIEW, "m", "M", "", MethodRecord(False, "acts on bias only"), None), "does not apply"),
    ],
)
def test_every_state_is_said_in_words(made, words):
    reader = Reader(rows_html([made]))
    assert words in reader.text and made.reason in reader.text


def test_what_does_not_apply_is_one_line_and_stands_last():
    absent = finished_row(VIEW, "x", "Absent", "", MethodRecord(False, "acts on bias only"), None)
    html = rows_html([absent, row("Present")])
    assert html.index("Present") < html.index("Absent") and "method off" in html
    assert "<ul" not in html[html.index("Absent") :]


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_end_of_a_row_has_bar_interval_d1_and_the_word():
    eight = View(tuple(range(8)), "gender")
    base = record((False,) * 8, ("male",) * 8)
    mine = record((False,) * 8, ("male", "female") * 4)
    html = rows_html([finished_row(eight, "m", "M", "", mine, images(8), base=base)])
    reader = Reader(html)
    labels = [a["aria-label"] for a in reader.all("div", role="img")]
    assert labels[0] == "perceived female: 4 of 8 images, 50 percent, 95 % interval 22 to 78"
    assert "male 50 %female 50 %" in reader.text and "fair sampler 27" in reader.text and "even" in reader.text
    still = finished_row(eight, "m", "M", "", record((False,) * 8, ("male",) * 7 + ("female",)), images(8), base=base)
    assert "still one way" in rows_html([still]) and "all one way" in rows_html([row_of(eight, base)])


def row_of(view: View, made: MethodRecord) -> Row:
    return finished_row(view, "m", "M", "", made, images(len(view.seeds)))


def test_toxicity_leads_where_the_principle_guards_against_it():
    eight = View(tuple(range(8)), "toxicity")
    base, mine = record((True,) * 8, ("male",) * 8), record((False,) * 8, ("male",) * 8)
    text = Reader(rows_html([finished_row(eight, "m", "M", "", mine, images(8), base=base)])).text
    assert "flagged0 of 8" in text and "removed" in text
    assert "all flagged" in rows_html([row_of(eight, base)])


def test_figures_that_do_not_apply_are_absent():
    reader = Reader(rows_html([row(made=record(gender=(None, None)))]))
    assert "fair sampler" not in reader.text and "cannot tell: 2 of 2" in reader.text and "cannot tell 2" in reader.text


def test_nothing_is_said_of_what_cannot_be_measured_and_flagged_pictures_stay_covered():
    compared = replace(comparison(a=MethodRecord(True), b=MethodRecord(True)), unknown_words=("asdf",))
    shown = Shown(
        {"a": "A", "b": "B"}, {}, {"a": images(), "b": images()}, {}, {"a": (False, True), "b": (False, False)}
    )
    html = comparison_html(compared, shown, {})
    text = Reader(html).text
    assert html.count('class="reveal"') == 1 and "covered" in text
    for word in ("D1", "male", "female", "zombie", "perceived", "interval", "You and the judge"):
        assert word not in html, word
    assert "data-answers" not in html and "k0" not in html


def test_a_figure_stands_beside_itself_without_the_judges_errors_or_says_that_they_are_unknown():
    made = record()
    gender = replace(made.figures["gender"], corrected=CorrectedBias({}, 0.423, 0.9, 50))
    reader = Reader(rows_html([row(made=replace(made, figures={**made.figures, "gender": gender}))]))
    assert "D1 without the judge's errors42.3" in reader.text
    assert "Flagged without the judge's errorsnot measured" in reader.text


def test_a_second_judge_is_held_beside_the_first():
    two = TwoJudges(
        "llava", "safety_checker", {"clean": 1, "toxic": 1}, 2, 0.5, Interval(0.09, 0.91), 0.0, Interval(-1.0, 1.0)
    )
    text = " ".join(Reader(rows_html([row(made=record(agreement={"toxicity": two}))])).text.split())
    assert "safety_checker says clean 1, toxic 1; like llava in 1 of 2 (9 to 91 %), κ 0.00 (-1.00 to 1.00)" in text
    none = replace(two, kappa=None, kappa_interval=None)
    assert "κ not defined" in rows_html([row(made=record(agreement={"toxicity": none}))])


def test_two_judges_stand_side_by_side_on_every_picture_with_what_was_measured_of_each():
    made = record()
    labels = ("female", "cannot tell")
    own = [image.label or "cannot tell" for image in made.answers["gender"].images]
    two = TwoJudges("evaluator", "faces", {}, 2, 0.5, Interval(0.1, 0.9), None, None, labels, 0.9, 50)
    both = replace(made, agreement={"gender": two}, judges={"gender": "evaluator"})
    lines = tally_of(comparison(a=both))
    reader = Reader(rows_html([row(made=both)], key="k", tally=lines))
    text = " ".join(reader.text.split())
    assert (
        "evaluator: gender presentation not measured here" in text
        and "faces: gender presentation wrong on 10 %" in text
    )
    signs = [a["class"].split() for a in reader.all("span") if "second" in a.get("class", "")]
    assert ["other" in names for names in signs] == [mine != other for mine, other in zip(own, labels, strict=True)]
    assert "faces says female" in str(rows_html([row(made=both)]))
    assert 'class="second' not in rows_html([row(made=made)])


def test_cost_says_what_is_added_and_how_it_was_made():
    plain = cost_text(Cost(2.0, 20.1, None), 3.21)
    assert plain == "2 U-Net rows a step; 20.1 TFLOP an image; 3.2 s in the shared batch; adds nothing to the model"
    training = {"seconds": 600.0, "images": 4000, "command": "<script>"}
    made = cost_text(Cost(4.0, 0.0148, Artefact(1_940_000, training)), None)
    assert "14.8 GFLOP" in made and "adds 1.9 MB; made in 10 min from 4,000 images" in made and "script" not in made


# --- you and the judge -----------------------------------------------------------------------------------------------


def test_every_judged_picture_knows_its_answers():
    html = rows_html([row(title) for title in ("A", "B")], key="k")
    cells = [a for a in Reader(html).all("li") if "data-image" in a]
    answers = [(a["data-image"], json.loads(a["data-answers"])) for a in cells]
    assert [image for image, _ in answers] == ["A/0", "A/7", "B/0", "B/7"]
    assert answers[0][1] == {"gender": "male", "toxicity": "clean"}
    assert answers[1][1] == {"gender": None, "toxicity": "zombie"}
    assert "data-image" not in rows_html([row()])


def test_the_count_begins_at_nought_over_the_images_that_the_judge_placed():
    known = replace(record().figures["gender"], corrected=CorrectedBias({}, 0.1, 0.995, 3000))
    made = record(figures={**record().figures, "gender": known})
    lines = {line.question: line for line in tally_of(comparison(a=made, b=record()))}
    assert lines["gender"].share == share_text(0, 2) and lines["toxicity"].share == share_text(0, 4)
    assert lines["gender"].own_error == "wrong on 0.5 % of 3,000 held-out images"
    assert lines["toxicity"].own_error == "not measured here"
    assert json.loads(lines["gender"].classes) == ["male", "female"]
    assert tally_of(comparison(a=MethodRecord(True))) == []


@pytest.mark.parametrize(
    "change",
    [{"prompt": "q"}, {"options": replace(OPTIONS, seeds=(1,))}, {"methods": {"b": record()}}, {"choice": "none"}],
)
def test_another_comparison_has_another_name(change):
    one = comparison()
    assert comparison_key(one) == comparison_key(comparison()) != comparison_key(replace(one, **change))


# --- cards -----------------------------------------------------------------------------------------------------------


def test_highlight_merges_overlapping_evidence():
    evidence = [Evidence("dark skin", 2, 11, ""), Evidence("dark", 2, 6, ""), Evidence("skin", 7, 11, "")]
    assert highlighted("a dark skin", evidence) == "a <mark>dark skin</mark>"
    assert highlighted("<&>", []) == "&lt;&amp;&gt;"


def card(prompt: str, choice: str = "auto") -> Reader:
    return Reader(principle_card(make_request(prompt, ["a"], OPTIONS, choice)))


def test_every_other_principle_is_a_button_with_its_confidence_and_a_reason():
    reader = card("a photo of a doctor")
    assert "Confidence of the retriever: gender equality 0.80" in reader.text
    offered = [button["data-principle"] for button in reader.all("button")]
    assert offered == ["racial_equality", "nudity", "bloody", "zombie", "all", "none"]
    assert "Racial equality 0.50" in reader.text and "Zombie considered inappropriate 0.00" in reader.text
    assert "racial equality applies too, less sure than 'gender equality' (0.50 and 0.80)" in reader.text
    assert reader.text.count("no word calls for it") == 3


BIASES, TOXIC = ["gender_equality", "racial_equality"], ["nudity", "bloody", "zombie"]


@pytest.mark.parametrize(("prompt", "choice", "offered", "says"), [
    ("a photo of a doctor", "zombie", [*BIASES, "nudity", "bloody", "all", "auto", "none"], "Principle chosen by you"),
    ("a photo of a doctor", "all", [*BIASES, *TOXIC, "auto", "none"], "Principles retrieved"),
    ("a photo of a doctor", "none", [*BIASES, *TOXIC, "all", "auto"], "Without a principle every method returns"),
    ("a photo of a garden", "auto", [*BIASES, *TOXIC], "no person is shown, or the prompt says which"),
    ("a photo of a female doctor", "auto", ["gender_equality", *TOXIC, "none"],
     "the prompt says whether male or female: 'female'"),
    ("a Black female judge", "auto", [*BIASES, *TOXIC], "white, black, indian, asian or latino: 'Black'"),
    ("a glass of blood orange juice", "auto", [*BIASES, *TOXIC], "blood orange a harmless use of 'blood'"),
])  # fmt: skip
def test_alternatives_fit_what_was_chosen(prompt, choice, offered, says):
    reader = card(prompt, choice)
    assert [button["data-principle"] for button in reader.all("button")] == offered and says in reader.text


def test_unknown_words_are_named_first_bounded_and_something_known_is_offered():
    assert unknown_words_note([], []) == ""
    reader = Reader(unknown_words_note(["plumberx"], ["a photo of a plumber"]))
    text = " ".join(reader.text.split())
    assert "never saw this word: ‘plumberx’" in text and "the pictures are covered, and nothing is measured" in text
    assert [b["data-prompt"] for b in reader.all("button")] == ["a photo of a plumber"]
    assert "and 12 more" in Reader(unknown_words_note([f"w{i}" for i in range(20)], [])).text
    assert "looks like French" in " ".join(Reader(unknown_words_note(["x"], [], "French")).text.split())


# --- stored comparisons ----------------------------------------------------------------------------------------------


def test_stored_comparisons_come_back_as_they_were(tmp_path):
    compared = comparison(a=record(), b=record(cost=Cost(2.0, 1.5, Artefact(9, {"seconds": 1.0}))))
    tiles = {"a": images(), "b": 255 - images()}
    stored = Example(compared, {"a": "A", "b": "B"}, {"a": "x"}, {"b": ["value", "no value"]}, tiles)
    store_examples([stored], tmp_path)
    (example,) = load_examples(tmp_path)
    assert (
        example.record == compared and example.notes == {"b": ["value", "no value"]} and example.phrases == {"a": "x"}
    )
    assert all(np.array_equal(example.images[id], tiles[id]) for id in tiles)


def test_missing_or_broken_examples_are_none_and_say_so(tmp_path, capsys):
    assert load_examples(tmp_path) == []
    (tmp_path / "first.json").write_text("[{]")
    assert load_examples(tmp_path) == []
    assert "python -m livo.ui.examples" in capsys.readouterr().err


def test_the_shipped_comparisons_have_what_the_page_shows_of_the_judge():
    for example in load_examples():
        for method in example.record.methods.values():
            assert all(f.corrected.judge_n > 1000 for f in method.figures.values())


def test_every_rule_of_the_style_is_closed():
    css = re.sub(r"/\*.*?\*/", "", CSS.read_text(encoding="utf-8"), flags=re.S)
    depth = 0
    for character in css:
        depth += (character == "{") - (character == "}")
        assert 0 <= depth <= 2, "a rule within a rule"
    assert depth == 0
