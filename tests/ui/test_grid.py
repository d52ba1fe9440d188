from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from livo.compare import choose_principle
from livo.retriever import retrieve
from livo.types import Evidence, Principle, Retrieval
from livo.ui.cards import highlighted, message, principle_card, status_line, unknown_words_note
from livo.ui.examples import Example, load_examples, store_examples
from livo.ui.grid import (
    ABSENT,
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    Cell,
    Column,
    cost_html,
    finished_column,
    grid_html,
    running_column,
)
from livo.ui.judge_view import agreement_html

EVIL = """<script>alert("1")</script> '"><img src=x onerror=alert(2)> ${3} {{4}} &amp;"""
SEEDS = (0, 7)
HOSTILE = Principle(EVIL, EVIL, "bias", (EVIL, EVIL))
HOSTILE_ANSWER = {
    EVIL: {"classes": [EVIL], "counts": [1], "abstained": 0, "images": [{"label": EVIL, "probability": 1.0}]}
}
HOSTILE_AGREEMENT = {
    EVIL: {
        "first": EVIL,
        "second": EVIL,
        "second_counts": {EVIL: 1},
        "n": 1,
        "alike": 1.0,
        "alike_interval": [0.2, 1.0],
        "kappa": None,
    }
}


class Reader(HTMLParser):
    """Tags with their attributes, text, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict]:
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def images(n: int = 2, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def result(toxic=(False, True), gender=("male", None)) -> dict:
    return {
        "applies": True,
        "reason": None,
        "classification": {
            "gender": {
                "classes": ["male", "female"],
                "counts": [sum(g == c for g in gender) for c in ("male", "female")],
                "abstained": gender.count(None),
                "images": [{"label": g, "probability": 0.9} for g in gender],
            },
            "toxicity": {
                "classes": ["clean", "zombie"],
                "counts": [toxic.count(False), toxic.count(True)],
                "abstained": 0,
                "images": [
                    {"label": "zombie" if t else "clean", "probability": 0.9, "score": 0.9, "toxic": t} for t in toxic
                ],
            },
        },
        "metrics": {
            "gender": {
                "n": 1,
                "discrepancy_range": 1.0,
                "discrepancy_l2": 0.7071,
                "floor": {"discrepancy_range": 1.0, "discrepancy_l2": 0.7071},
                "intervals": {"male": [0.2065, 1.0], "female": [0.0, 0.7935]},
            },
            "toxicity": {"n": 2, "toxicity_ratio": 0.5, "toxicity_score": 0.5, "interval": [0.1, 0.9]},
        },
    }


def test_nothing_that_was_typed_or_raised_becomes_markup():
    cells = [Cell(0, DONE, images()[0], verdict={EVIL: EVIL})]
    hostile = Column(EVIL, DONE, cells, classification=HOSTILE_ANSWER, agreement=HOSTILE_AGREEMENT)
    pieces = [
        grid_html([Column(EVIL, FAILED, [Cell(0, FAILED)], EVIL)]),
        grid_html([Column("t", DONE, [Cell(0, DONE, images()[0], EVIL, EVIL, note=EVIL)])]),
        principle_card(EVIL, Retrieval(None, (Evidence("alert", 8, 13, EVIL),), {}, (), EVIL), "auto", (), [EVIL]),
        principle_card("x", Retrieval(None, (), {}), "i", [HOSTILE], principles=[HOSTILE]),
        principle_card("x", Retrieval(None, (), {EVIL: 0.5}), "auto", principles=[HOSTILE]),
        grid_html([hostile], key=EVIL),
        message(EVIL),
        status_line(EVIL),
        unknown_words_note([EVIL]),
    ]
    for piece in pieces:
        reader = Reader(piece)
        assert not reader.all("script") and not reader.all("img", src="x")
        assert all(not name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert EVIL in Reader(message(EVIL)).text


def test_images_are_data_and_no_path_or_method_leaks():
    column = finished_column("Secret Method", SEEDS, result((False, False)), images())
    reader = Reader(grid_html([column]))
    for image in reader.all("img"):
        assert image["src"].startswith("data:image/png;base64,")
        assert "Secret" not in image["alt"] and "/" not in image["alt"]
    pixels = Image.open(io.BytesIO(base64.b64decode(reader.all("img")[0]["src"].split(",")[1])))
    assert np.array_equal(np.asarray(pixels), images()[0])


def test_large_images_stay_small_in_the_page():
    flat = np.full((1, 512, 512, 3), 127, dtype=np.uint8)
    html = grid_html([running_column("M", [0], flat, veiled=False)])
    assert "data:image/webp" in html and len(html) < 20_000


def test_columns_hold_the_same_seeds_in_the_same_order():
    columns = [finished_column(title, SEEDS, result((False, False)), images()) for title in ("A", "B")]
    html = grid_html(columns)
    assert re.findall(r"<figcaption>seed (\d+)", html) == ["0", "7", "0", "7"]
    assert html.index(">A<") < html.index(">B<")


def test_a_flagged_image_is_covered_until_asked_for():
    reader = Reader(grid_html([finished_column("M", SEEDS, result(), images())]))
    buttons = reader.all("button", **{"class": "reveal"})
    assert len(buttons) == 1 and buttons[0]["aria-pressed"] == "false" and buttons[0]["type"] == "button"
    assert buttons[0]["aria-label"] == "Show the image of seed 7, flagged as zombie"
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
        [i["src"] for i in Reader(grid_html([running_column("M", SEEDS, previews, veiled=v)])).all("img")]
        for v in (False, True)
    ]
    assert all(len(veiled) < len(plain) for plain, veiled in zip(*sources, strict=True))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (running_column("M", SEEDS, None, veiled=False, state=WAITING), "waiting"),
        (running_column("M", SEEDS, images(), veiled=False, state=RUNNING), "running"),
        (finished_column("M", SEEDS, {"applies": True, "reason": "it failed: x", "images": []}, None), "failed"),
        (finished_column("M", SEEDS, {"applies": False, "reason": "acts on bias only"}, None), "does not apply"),
    ],
)
def test_every_state_is_said_in_words(column, words):
    reader = Reader(grid_html([column]))
    assert words in reader.text and column.reason in reader.text
    assert ("seed" in reader.text) == (column.state != ABSENT)


def test_results_say_perceived_and_cannot_tell_with_interval_and_floor():
    html = grid_html([finished_column("M", SEEDS, result(), images())])
    reader = Reader(html)
    assert "Gender presentation, perceived as" in reader.text and "cannot tell1 of 2" in reader.text
    labels = [a["aria-label"] for a in reader.all("span", role="img")]
    assert "male: 1 of 1 images, 100 percent, interval 21 to 100" in labels
    assert "D1100.0 (fair sampler 100.0)" in reader.text
    assert "left:20.6%;width:79.3%" in html or "left:20.7%;width:79.3%" in html
    assert "perceived gender: cannot tell" in html


def test_figures_that_do_not_apply_are_absent():
    nothing = result(gender=(None, None))
    del nothing["metrics"]["gender"]
    reader = Reader(grid_html([finished_column("M", SEEDS, nothing, images())]))
    assert "D1" not in reader.text and "cannot tell2 of 2" in reader.text


def test_toxicity_comes_first_where_it_matters():
    column = finished_column("M", SEEDS, result(), images())
    first, last = grid_html([column], toxicity_first=True), grid_html([column])
    assert first.index("Toxicity,") < first.index("Gender presentation")
    assert last.index("Toxicity,") > last.index("Gender presentation")


def test_highlight_merges_overlapping_evidence():
    evidence = [Evidence("dark skin", 2, 11, ""), Evidence("dark", 2, 6, ""), Evidence("skin", 7, 11, "")]
    assert highlighted("a dark skin", evidence) == "a <mark>dark skin</mark>"
    assert highlighted("<&>", []) == "&lt;&amp;&gt;"


def card(prompt: str, choice: str = "auto") -> Reader:
    return Reader(principle_card(prompt, retrieve(prompt), choice, choose_principle(prompt, choice).principles))


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
    ("a photo of a doctor", "none", [*BIASES, *TOXIC, "all", "auto"], "No method changes anything"),
    ("a photo of a garden", "auto", [*BIASES, *TOXIC], "no person is shown, or the prompt says which"),
    ("a photo of a female doctor", "auto", ["gender_equality", *TOXIC, "none"], "the prompt says whether male or female: 'female'"),
    ("a Black female judge", "auto", [*BIASES, *TOXIC], "white, black, indian, asian or latino: 'Black'"),
    ("a glass of blood orange juice", "auto", [*BIASES, *TOXIC], "blood orange a harmless use of 'blood'"),
])  # fmt: skip
def test_alternatives_fit_what_was_chosen(prompt, choice, offered, says):
    reader = card(prompt, choice)
    assert [button["data-principle"] for button in reader.all("button")] == offered and says in reader.text


def test_a_figure_stands_beside_itself_without_the_judges_errors_or_says_that_they_are_unknown():
    known = result()
    known["metrics"]["gender"]["corrected"] = {
        "discrepancy_range": 0.423,
        "shares": {},
        "judge_accuracy": 0.9,
        "judge_n": 50,
    }
    reader = Reader(grid_html([finished_column("M", SEEDS, known, images())]))
    assert (
        "D1 without the judge's errors42.3" in reader.text
        and "Flagged without the judge's errorsnot measured" in reader.text
    )


def test_a_second_judge_is_held_beside_the_first():
    told = {"first": "llava", "second": "safety_checker", "second_counts": {"clean": 1, "toxic": 1}, "n": 2, "alike": 0.5,
            "alike_interval": [0.09, 0.91], "kappa": 0.0, "kappa_interval": [-1.0, 1.0]}  # fmt: skip
    text = Reader(grid_html([finished_column("M", SEEDS, result() | {"agreement": {"toxicity": told}}, images())])).text
    assert "safety_checker says clean 1, toxic 1; like llava in 1 of 2 (9 to 91 %), κ 0.00 (-1.00 to 1.00)" in text
    assert "κ not defined" in agreement_html({"toxicity": told | {"kappa": None}}) and "Two judges" not in grid_html([])


def test_unknown_words_are_named_and_bounded():
    assert unknown_words_note([]) == ""
    text = Reader(unknown_words_note(["plumberx"])).text
    assert "does not know ‘plumberx’" in text
    assert "and 12 more" in Reader(unknown_words_note([f"w{i}" for i in range(20)])).text


def test_stored_comparisons_come_back_as_they_were(tmp_path):
    answer = {"prompt": "p", "options": {"seeds": [0, 1]}, "methods": {"a": result(), "b": result()}}
    tiles = {"a": images(), "b": 255 - images()}
    store_examples([Example(answer, {"a": "A", "b": "B"}, {"b": ["value", "no value"]}, tiles)], tmp_path)
    (example,) = load_examples(tmp_path)
    assert example.answer == answer and example.notes == {"b": ["value", "no value"]}
    assert all(np.array_equal(example.images[id], tiles[id]) for id in tiles)


def test_missing_or_broken_examples_are_none_and_say_so(tmp_path, capsys):
    assert load_examples(tmp_path) == []
    (tmp_path / "first.json").write_text("[{]")
    assert load_examples(tmp_path) == []
    assert "python -m livo.ui.examples" in capsys.readouterr().err


def test_cost_says_what_is_added_and_how_it_was_made():
    assert cost_html({}) == cost_html({"seconds": 1.0}) == ""
    plain = cost_html({"rows": 2.0, "tflop": 20.1, "seconds": 3.21})
    assert "2 U-Net rows a step; 20.1 TFLOP an image; 3.2 s in the shared batch; adds nothing to the model" in plain
    training = {"seconds": 600.0, "images": 4000, "command": "<script>"}
    made = cost_html({"rows": 4.0, "tflop": 0.0148, "seconds": 1.0, "bytes": 1_940_000, "training": training})
    assert "14.8 GFLOP" in made and "adds 1.9 MB; made in 10 min from 4,000 images" in made and "script" not in made
