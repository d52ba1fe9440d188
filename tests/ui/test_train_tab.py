"""The tab where visitors train: what they asked for, what they are shown, and what is theirs."""

from __future__ import annotations

import base64
import dataclasses
import io
import random
import re
import zipfile

import gradio as gr
import numpy as np
import pytest

from baselines.stable_diffusion import StableDiffusion
from livo.compare.comparison import MethodEntry
from livo.diffusion.backbones import Defaults
from livo.live_training import (
    FOLDER,
    LOSSES,
    Ended,
    LiveRequest,
    Preparing,
    Preview,
    Stepped,
    Waiting,
    pack_encoder,
    unpack_encoder,
)
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder, save_value_encoder
from livo.miniature.world import load_world
from livo.types import InputError
from livo.ui import train_tab
from livo.ui.access import Access
from livo.ui.own_inputs import select_html
from livo.ui.templates import render
from livo.ui.train_tab import RATES, Trained, compare_encoders, download_link, request_of, run_training
from livo.ui.train_view import HEIGHT, WIDTH, charts_html, concepts_html, strip_html
from livo.ui.workbench import Workbench

ASKED = ("chef,barista", "gender_equality", "livo", 1.0, 0.5, 40, 0)
BOTH = ("bias", "toxicity")
NUMBERS = {"loss": 1.2, "chosen past": 0.2, "rejected past": 0.4, "chosen drift": -0.001, "rejected drift": 0.002}


def look(step: int, wanted: int = 3, encoder: bytes | None = None) -> Preview:
    images = np.zeros((4, 64, 64, 3), np.uint8)
    shown = tuple(i < wanted for i in range(4))
    labels = tuple("female" if w else None for w in shown)
    return Preview(
        step, 1.0, ("a photo of a chef",) * 4, (0, 1, 2, 3), images, labels, shown, (True, True, True, False), encoder
    )


def steps(count: int, **numbers: float) -> list[Stepped]:
    return [Stepped(i + 1, count, 0.5 * i, NUMBERS | numbers) for i in range(count)]


class Trainer:
    """Reports what it was given, and remembers whether it was closed."""

    def __init__(self, *updates) -> None:
        self.updates, self.asked, self.open = updates, [], False

    def __call__(self, request: LiveRequest):
        self.asked.append(request)
        self.open = True
        try:
            for update in self.updates:
                if isinstance(update, Exception):
                    raise update
                yield update
        finally:
            self.open = False


@pytest.fixture(autouse=True)
def every_chart(monkeypatch):
    monkeypatch.setattr(train_tab, "CHARTS_EVERY", 0)


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_the_controls_are_what_is_trained():
    assert request_of(*ASKED) == LiveRequest(("chef", "barista"), num_steps=40)
    assert request_of("chef", "racial_equality", "dpo", 2, 0, 50, 7) == LiveRequest(
        ("chef",), "racial_equality", "dpo", 2.0, 0.0, 50, 7
    )


@pytest.mark.parametrize(("place", "value", "says"), [
    (0, "", "no concept is chosen"),
    (0, None, "no concept is chosen"),
    (1, "<b>", "no principle &#39;&lt;b&gt;&#39;"),
    (2, "<b>", "no loss &#39;&lt;b&gt;&#39;"),
    (3, -1.0, "give 0 to 20"),
    (4, None, "gamma 2 is missing"),
    (4, float("nan"), "give 0 to 20"),
    (5, 0, "cannot be trained here"),
    (5, 10_000, "cannot be trained here"),
    (5, None, "number of steps is missing"),
    (6, -3, "whole number"),
    (6, 1.5, "whole number"),
])  # fmt: skip
def test_bad_input_is_one_message_and_nothing_is_trained(place, value, says):
    trainer = Trainer(Ended(1.0))
    asked = [*ASKED]
    asked[place] = value
    ((status, *others),) = run_training(trainer, *asked)
    assert says in status.lower() and 'role="alert"' in status and not trainer.asked
    assert not any(isinstance(other, (str, Trained)) for other in others), "what stood there stays"


def test_a_page_without_a_trainer_says_how_to_get_one():
    ((status, *_),) = run_training(None, *ASKED)
    assert "python app.py" in status


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_a_training_is_shown_from_the_queue_to_the_end_and_the_last_encoder_is_kept():
    trainer = Trainer(
        Waiting(2, 75.0),
        Preparing("drawing pairs", 3.0),
        look(0, 0),
        *steps(2),
        look(2, 3, b"two"),
        *steps(2),
        look(4, 4, b"four"),
        Ended(50.0),
    )
    shown = list(run_training(trainer, *ASKED))
    statuses = [status for status, *_ in shown]
    assert "2 trainings before yours, about 75 s" in statuses[0] and "drawing pairs" in statuses[1]
    assert "Step 1 of 2" in statuses[3] and "Trained in 50 s" in statuses[-1]
    assert "left" in statuses[3] and "left" not in statuses[4], "the last step leaves nothing"
    strips = [" ".join(strip.split()) for _, strip, *_ in shown if isinstance(strip, str)]
    assert len(strips) == 3 and "Nothing is trained yet" in strips[0] and strips[0].count("<img") == 4
    assert all(strip.count("<img") == 8 and "Before" in strip for strip in strips[1:])
    assert "75 %" in strips[1] and "3 of 4" in strips[1] and "cannot tell 1" in strips[1] and "0 % before" in strips[1]
    kept = [state for *_, state in shown if isinstance(state, Trained)]
    assert [(k.encoder, k.step) for k in kept] == [(b"two", 2), (b"four", 4)] and kept[0].request == trainer.asked[0]
    assert not trainer.open


def test_a_visitor_who_leaves_ends_the_training():
    trainer = Trainer(Preparing("x"), *steps(5))
    shown = run_training(trainer, *ASKED)
    next(shown), next(shown)
    assert trainer.open
    shown.close()
    assert not trainer.open


@pytest.mark.parametrize(("update", "says"), [
    (Ended(3.0, "loss became nan at step 3 <b>"), "loss became nan at step 3 &lt;b&gt;"),
    (InputError("no concept '<i>'"), "no concept &#39;&lt;i&gt;&#39;".capitalize()),
    (MemoryError("too <u>large"), "too &lt;u&gt;large"),
])  # fmt: skip
def test_whatever_ends_a_training_is_said_and_escaped(update, says):
    shown = list(run_training(Trainer(*steps(1), update), *ASKED))
    assert says.lower() in shown[-1][0].lower() and 'role="alert"' in shown[-1][0]
    assert not isinstance(shown[-1][1], str) and not isinstance(shown[-1][3], Trained)


def test_lines_stay_inside_their_charts_whatever_the_numbers():
    rng = random.Random(0)
    for scale in (1e-4, 1.0, 1e5):
        steps = []
        for i in range(30):
            numbers = {key: rng.random() if "past" in key else rng.gauss(0, scale) for key in NUMBERS}
            steps.append(Stepped(i + 1, 30, 1.0, numbers))
        html = charts_html(steps, margins=True)
        places = [
            tuple(map(float, p))
            for path in re.findall(r'd="M([^"]+)"', html)
            for p in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)
        ]
        assert len(places) == 5 * 30
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


def test_a_loss_without_margins_has_no_chart_of_them():
    assert charts_html(steps(3), True).count("<svg") == 3 and "margin" not in charts_html(steps(3), False)
    assert "no step yet" in charts_html([], True)


def test_the_share_is_called_aligned_from_seven_in_ten_on():
    request = LiveRequest()
    assert "not yet aligned" in strip_html(look(0, 0), look(5, 2), request) and "visibly aligned" in strip_html(
        look(0, 0), look(5, 3), request
    )
    assert strip_html(None, None, request) == ""


def test_choices_are_native_escaped_and_say_how_the_model_draws():
    html = concepts_html(
        load_world(), {"chef": {"gender": {"male": 24, "female": 0}, "tone": {"dark": 12, "light": 12}}}, ["chef"]
    )
    assert html.count(" checked") == 1 and "100 % male, 50 % dark" in html
    assert 'value="doctor"' not in html and html.count('type="checkbox"') == 56, "held-out concepts are for evaluation"
    assert "&lt;b&gt;" in select_html("x", {"a": "<b>"})
    intro = render("live_intro.html", losses=LOSSES.values())
    assert all(loss.title in intro for loss in LOSSES.values())


# --- what is theirs --------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(engine, tmp_path) -> bytes:
    save_value_encoder(ValueEncoder.untrained(engine.backbone).model, tmp_path / "encoder")
    return pack_encoder(tmp_path / "encoder")


@pytest.fixture
def bench(engine) -> Workbench:
    shipped = LiVO(engine, ValueEncoder.untrained(engine.backbone))
    entries = {
        "stable_diffusion": MethodEntry("Stable Diffusion", BOTH, StableDiffusion(engine)),
        "livo": MethodEntry("LiVO", BOTH, shipped),
    }
    return Workbench(engine, entries, Defaults(num_inference_steps=2, guidance_scale=5.0, height=16, width=16))


def test_the_comparison_has_three_rows_on_the_same_seeds(bench, packed):
    before = dict(bench.entries)
    trained = Trained(LiveRequest(), packed, 40)
    *_, (head, status, grid) = compare_encoders(bench, trained, "a photo of a chef", "1", 2, 5)
    assert "gender equality" in head and RATES["1"] in head and "<button" not in head
    titles = re.findall(r"<h3>(.*?)</h3>", grid)
    assert titles == ["Stable Diffusion", "Yours, 40 steps", "LiVO as shipped"] and "Done" in status
    assert grid.count('data-seed="5"') == grid.count('data-seed="6"') == 3, "the same seeds"
    assert grid.count('data-note="value"') == 4, "the value in every image"
    *_, (_, _, half) = compare_encoders(bench, trained, "a photo of a chef", "0.5", 2, 5)
    assert half.count('data-note="value"') == 2
    assert bench.entries == before


def test_on_a_public_page_it_counts_as_its_visitors(bench, packed):
    public = dataclasses.replace(bench, access=Access(public=True))
    list(compare_encoders(public, Trained(LiveRequest(), packed, 40), "a photo of a chef", "1", 1, 5, "10.0.0.9"))
    assert public.turn.shares.used("10.0.0.9") > 0


@pytest.mark.parametrize(("prompt", "count", "says"), [
    ("", 2, "prompt is empty"), ("a photo of a chef", 0, "give 1 to 50"), ("a photo of a chef", None, "give 1 to 50"),
])  # fmt: skip
def test_a_comparison_that_cannot_be_is_a_message(bench, packed, prompt, count, says):
    ((card, *_),) = compare_encoders(bench, Trained(LiveRequest(), packed, 1), prompt, "1", count, 0)
    assert says in card.lower()


def test_without_a_training_there_is_nothing_to_compare_or_take(bench):
    ((card, _, grid),) = compare_encoders(bench, None, "a photo of a chef", "1", 2, 0)
    assert "nothing is trained yet" in card.lower() and not isinstance(grid, str)
    assert "nothing is trained yet" in download_link(None).lower()
    assert set(RATES) == {"1", "0.5"}


def test_the_download_is_a_folder_that_evaluation_reads(packed, tmp_path):
    link = download_link(Trained(LiveRequest(), packed, 40))
    data = base64.b64decode(re.search(r"base64,([^\"]+)", link)[1])
    assert data == packed and f"--value-encoders mine={FOLDER}" in link and f'download="{FOLDER}.zip"' in link
    assert sorted(zipfile.ZipFile(io.BytesIO(data)).namelist()) == [
        f"{FOLDER}/config.json",
        f"{FOLDER}/model.safetensors",
    ]
    folder = unpack_encoder(data, tmp_path)
    assert folder.name == FOLDER and (folder / "model.safetensors").is_file()


def test_what_a_visitor_trains_is_in_that_visitors_session_only(bench):
    with gr.Blocks() as page:
        train_tab.build_train_tab(bench, Trainer())
    assert next(block for block in page.blocks.values() if isinstance(block, gr.State)).value is None
    assert "Trained" not in str(page.get_config_file())
