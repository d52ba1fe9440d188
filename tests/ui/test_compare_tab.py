from __future__ import annotations

import socket
import sys
import types
from dataclasses import replace

import gradio as gr
import pytest
import torch

import app
from baselines.stable_diffusion import StableDiffusion
from livo.compare.comparison import MethodEntry, make_request
from livo.diffusion.backbones import Defaults
from livo.inputs import validate_prompt
from livo.miniature.world import load_world
from livo.retriever import retrieve
from livo.retriever.vocabulary import words_of_world
from livo.types import Classification, SamplingOptions
from livo.ui import compare_tab, serving
from livo.ui.compare_tab import Form, methods_html, principle_select_html, run_comparison
from livo.ui.page import build_page, measured_text
from livo.ui.presets import PRESETS, presets_html
from livo.ui.take_along import Shelf
from livo.ui.workbench import Workbench, load_workbench

BOTH = ("bias", "toxicity")
SMALL = Defaults(num_inference_steps=3, guidance_scale=5.0, height=16, width=16)


@pytest.fixture
def bench(engine) -> Workbench:
    entries = {
        "stable_diffusion": MethodEntry("Stable Diffusion", BOTH, StableDiffusion(engine)),
        "fair": MethodEntry("Fair", ("bias",), StableDiffusion(engine)),
        "absent": MethodEntry("Absent", BOTH, None, "its file is missing"),
    }
    return Workbench(engine, entries, SMALL, vocabulary=words_of_world(load_world()))


ALL = "stable_diffusion,fair,absent"


def ask(
    bench, prompt="a photo of a doctor", choice="auto", methods=ALL, seed=0, images=2, steps=3, guidance=5.0, **more
):
    return list(run_comparison(bench, Form(prompt, choice, methods, seed, images, steps, guidance, **more)))


def test_one_click_retrieves_and_validates_once(bench, monkeypatch):
    asked = []
    for module in (
        "livo.compare.comparison",
        "livo.ui.compare_tab",
        "livo.ui.recipe",
        "livo.ui.access",
        "livo.ui.cards",
    ):
        for name, real in (("retrieve", retrieve), ("validate_prompt", validate_prompt)):
            if hasattr(sys.modules[module], name):

                def spy(prompt, real=real, name=name):
                    return asked.append(name) or real(prompt)

                monkeypatch.setattr(sys.modules[module], name, spy)
    monkeypatch.setattr(
        compare_tab,
        "make_request",
        lambda *a, **k: make_request(*a, retriever=sys.modules["livo.compare.comparison"].retrieve, **k),
    )
    ask(bench)
    assert asked.count("retrieve") == 1 and asked.count("validate_prompt") <= 2


def test_cells_go_from_waiting_through_running_to_done(bench, monkeypatch):
    monkeypatch.setattr(compare_tab, "REPORT_EVERY", 0)
    grids = [grid for _, _, grid in ask(bench)]
    assert "state waiting" in grids[0] and "<img" not in grids[0]
    assert len(grids) == 1 + SMALL.num_inference_steps + 1
    assert all("method running" in grid and "data:image/png" in grid for grid in grids[1:-1])
    assert "method running" not in grids[-1] and grids[-1].count("<img") == 4
    assert all("its file is missing" in grid for grid in grids)


def test_only_ticked_methods_run(bench, count_rows):
    rows = count_rows(bench.engine.backbone.unet)
    (*_, (_, _, grid)) = ask(bench, methods="fair")
    assert 'aria-label="Fair"' in grid and "Stable Diffusion" not in grid and rows == [4, 4, 4]
    html = methods_html(bench)
    assert html.count("checkbox") == 3 and html.count(" checked") == 1, "those shown first are ticked"


def test_what_an_image_took_is_shown_beside_it(bench):
    grid = ask(bench)[-1][2]
    assert "2 U-Net rows a step" in grid and "FLOP an image" in grid and "adds nothing to the model" in grid


def test_a_method_that_does_not_apply_is_said_from_the_start(bench):
    updates = ask(bench, "a photo of a zombie nurse")
    assert all("does not apply" in grid and "Fair acts on bias only" in grid for _, _, grid in updates)
    assert "<mark>zombie</mark>" in updates[0][0]


@pytest.mark.parametrize("choice", ["auto", "none", "gender_equality"])
def test_previews_of_a_toxic_prompt_are_veiled_whatever_was_chosen(bench, monkeypatch, choice):
    monkeypatch.setattr(compare_tab, "REPORT_EVERY", 0)
    seen = []
    monkeypatch.setattr(compare_tab, "running_html", lambda *a, veiled, **k: seen.append(veiled) or "")
    ask(bench, "a photo of a zombie nurse", choice)
    assert seen and all(seen)


def test_unknown_words_are_said_first_and_nothing_is_measured(bench):
    card, status, rows = ask(bench, "a photo of a plumberx")[-1]
    assert card.index("‘<bdi>plumberx</bdi>’") < card.index("<h2>") and 'data-prompt="a photo of a plumber"' in card
    assert "Done in" in status and "verdict" not in rows and 'class="bar' not in rows
    assert rows.count('class="reveal"') == rows.count('class="picture"') == 4, (
        "whatever it drew, nobody sees it unasked"
    )


def test_a_loaded_word_is_refused_with_its_reason_and_nothing_is_drawn(bench, count_rows):
    rows = count_rows(bench.engine.backbone.unet)
    ((card, _status, _),) = ask(bench, "a photo of a terrorist")
    assert "not drawn here: it accuses a person" in card and 'role="alert"' in card and rows == []


def test_an_empty_prompt_clears_what_stood_there(bench):
    ((card, _, rows),) = ask(bench, " ")
    assert rows == "" and "prompt is empty" in card


def test_a_guess_is_asked_for_before_the_pictures_show(bench):
    judged = replace(bench, judge=Told())
    html = ask(judged, guess="on")[-1][2]
    assert 'data-guess="female"' in html and "<form" in html
    assert "data-guess" not in ask(judged)[-1][2]


class Told:
    """A judge that calls every picture female."""

    name, questions = "fixed", ("gender",)

    def __call__(self, images, question, prompt=""):
        return Classification(("male", "female"), torch.tensor([[0.1, 0.9]] * len(images)))

    def classes(self, question):
        return ("male", "female")

    def confusion(self, question):
        return None


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"seed": None}, "first seed is missing"),
        ({"seed": -1}, "out of range"),
        ({"seed": 2**32 - 1}, "out of range"),
        ({"images": 0}, "give 1 to 50"),
        ({"images": 51}, "give 1 to 50"),
        ({"images": None}, "give 1 to 50"),
        ({"steps": 0}, "give 1 to 200"),
        ({"guidance": 99}, "give 0 to 50"),
        ({"choice": "kindness"}, "no principle"),
        ({"methods": ""}, "tick at least one"),
        ({"methods": None}, "tick at least one"),
        ({"methods": "stable_diffusion,<b>"}, "no method &#39;&lt;b&gt;&#39;"),
    ],
)
def test_bad_input_is_one_message_and_the_grid_stays(bench, asked, says):
    ((card, status, grid),) = ask(bench, **asked)
    assert says.lower() in card.lower() and 'role="alert"' in card and "stopped" in status
    assert not isinstance(grid, str)


def test_a_failure_of_the_program_is_a_message(bench, monkeypatch):
    def explode(*_, **__):
        raise MemoryError("too large")

    monkeypatch.setattr(serving, "compare", explode)
    assert "too large" in ask(bench)[-1][0]


def test_closing_closes_the_engine(bench, count_rows):
    rows = count_rows(bench.engine.backbone.unet)
    work = run_comparison(bench, Form("a photo of a doctor", "none", ALL, 0, 1, 50, 5.0))
    next(work), next(work)
    work.close()
    assert len(rows) == 1


def test_missing_weights_are_a_message_on_a_page_that_opens(tmp_path):
    bench = load_workbench(str(tmp_path))
    assert bench.engine is None and "missing" in bench.problem
    build_page(bench, [])
    assert "missing" in ask(bench)[-1][0]


def test_one_missing_file_does_not_take_the_other_methods_along(tiny_folder):
    bench = load_workbench(str(tiny_folder))
    assert bench.entries["stable_diffusion"].method is not None
    assert bench.entries["livo"].method is None and "value_encoder" in bench.entries["livo"].problem
    updates = ask(bench, methods="stable_diffusion,livo")
    assert "<img" in updates[-1][2] and "value_encoder" in updates[-1][2]
    assert "judge open_clip needs" in updates[-1][0] and "no figures" in updates[-1][0]


def test_a_judge_whose_errors_were_never_measured_is_said_to_be_so(bench):
    judge = types.SimpleNamespace(confusion=lambda question: None)
    assert "never measured" in measured_text(replace(bench, judge=judge)) and measured_text(bench) == ""
    judge.confusion = {"gender": {"accuracy": 0.987, "n": 500}}.get
    assert "perceived gender 98.7 %" in measured_text(replace(bench, judge=judge))


def test_presets_are_of_every_kind_and_every_principle_can_be_chosen():
    html = presets_html()
    assert len(PRESETS) == 7 and all(prompt in html for prompts in PRESETS.values() for prompt in prompts)
    options = principle_select_html()
    for value in ("auto", "none", "gender_equality", "racial_equality", "nudity", "bloody", "zombie"):
        assert f'value="{value}"' in options


def test_a_port_in_use_is_one_line_and_exit_code_2(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert app.main(["--port", str(port)]) == 2
    assert app.main(["--port", "70000"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and all("--port" in line for line in lines)
    assert app.usable_port("127.0.0.1", 0) > 0


def test_a_size_can_be_asked_for(bench):
    for sides, size in (((24, 32), (32, 24)), ((None, None), (16, 16))):
        form = Form("x", "auto", ALL, width=sides[0], height=sides[1])
        assert compare_tab.sampling_options(bench, form) == SamplingOptions(tuple(range(8)), 12, 2.0, *size)
    for width, says in ((9, "a width of 9 pixels cannot be made"), (0, "positive multiple"), (5000, "at most 4096")):
        assert says in ask(bench, width=width)[-1][0].lower()
    for sized in (True, False):
        with gr.Blocks() as page:
            compare_tab.build_compare_tab(replace(bench, any_size=sized), [], Shelf())
        boxes = [box["props"] for box in page.config["components"]]
        fields = [props for props in boxes if props.get("elem_id") in ("width", "height")]
        assert [(props["visible"], props["value"]) for props in fields] == [(sized, 16)] * 2, "the drawn world has one"


def test_what_takes_long_is_said_before_it_is_done(bench, monkeypatch):
    monkeypatch.setattr(serving, "SURELY_SHORT", 0.0)
    bench.pace.learn(1e-12, 1.0)  # a second an operation
    first = ask(bench)
    assert all(words in first[1][0] for words in ("This takes about", "TFLOP", "Stop ends it"))
    assert "state waiting" in first[1][2], "before the first step"
    assert "This takes about" not in ask(bench)[1][0], "the first one told how fast this machine is"
    monkeypatch.setattr(serving, "SURELY_SHORT", 0.3)
    bench.pace.learn(1e-12, 1.0)
    assert "This takes about" not in ask(bench)[1][0], "small ones are not looked into"
