from __future__ import annotations

import socket
import types
from dataclasses import replace

import pytest

import app
from baselines.stable_diffusion import StableDiffusion
from livo.compare import MethodEntry
from livo.diffusion.backbones import Defaults
from livo.ui import compare_tab, serving
from livo.ui.compare_tab import PRESETS, methods_html, presets_html, principle_select_html, run_comparison
from livo.ui.page import build_page, measured_html
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
    return Workbench(
        engine, entries, SMALL, unknown_words=lambda prompt: [w for w in prompt.split() if w == "plumberx"]
    )


ALL = "stable_diffusion,fair,absent"


def ask(
    bench, prompt="a photo of a doctor", choice="auto", methods=ALL, seed=0, images=2, steps=3, guidance=5.0
) -> list:
    return list(run_comparison(bench, prompt, choice, methods, seed, images, steps, guidance))


def test_cells_go_from_waiting_through_running_to_done(bench, monkeypatch):
    monkeypatch.setattr(compare_tab, "REPORT_EVERY", 0)
    grids = [grid for _, _, grid in ask(bench)]
    assert "cell waiting" in grids[0] and "<img" not in grids[0]
    assert len(grids) == 1 + SMALL.num_inference_steps + 1
    assert all("cell running" in grid and "data:image/png" in grid for grid in grids[1:-1])
    assert "cell running" not in grids[-1] and grids[-1].count("cell done") == 4
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
    monkeypatch.setattr(
        compare_tab, "running_column", lambda *a, veiled, **k: seen.append(veiled) or compare_tab.Column("", "running")
    )
    ask(bench, "a photo of a zombie nurse", choice)
    assert seen and all(seen)


def test_unknown_words_are_named(bench):
    assert "does not know ‘<bdi>plumberx</bdi>’" in ask(bench, "a photo of a plumberx")[-1][0]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": None}, "prompt is empty"),
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
        ({"methods": "stable_diffusion,<b>"}, "no method &#x27;&lt;b&gt;&#x27;"),
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
    work = run_comparison(bench, "a photo of a doctor", "none", ALL, 0, 1, 50, 5.0)
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
    assert "cell done" in updates[-1][2] and "value_encoder" in updates[-1][2]
    assert "judge open_clip needs" in updates[-1][0] and "no figures" in updates[-1][0]


def test_a_judge_whose_errors_were_never_measured_is_said_to_be_so(bench):
    judge = types.SimpleNamespace(confusion=lambda question: None)
    assert "never measured" in measured_html(replace(bench, judge=judge)) and measured_html(bench) == ""
    judge.confusion = {"gender": {"accuracy": 0.987, "n": 500}}.get
    assert "perceived gender 98.7 %" in measured_html(replace(bench, judge=judge))


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
