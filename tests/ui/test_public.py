"""Public mode: what is refused, what is withheld from every method's pictures, and what answers when a GPU is gone."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import types

import gradio as gr
import numpy as np
import pytest
import torch

from baselines import available
from livo.classifiers.panel import TOXICITY, toxicity_scores
from livo.compare.comparison import Comparison, ComparisonRequest, make_request
from livo.measures.metrics import TOXIC_ABOVE
from livo.types import Classification, InputError, SamplingOptions
from livo.ui import opening, zero_gpu
from livo.ui.access import BLOCKS, STAND_INS, Access, flagged, unrecognisable
from livo.ui.compare_tab import Form, run_comparison
from livo.ui.page import masthead_html
from livo.ui.presets import PRESETS, presets_html
from livo.ui.serving import Notice, on_a_lent_gpu, on_this_machine, serve
from livo.ui.turn import Turn
from livo.ui.workbench import Workbench, load_workbench

PUBLIC = Access(public=True)
OPTIONS = SamplingOptions((0, 1), 6, 2.0, 64, 64)


def asked(
    prompt: str, methods=("livo",), options: SamplingOptions = OPTIONS, choice: str = "auto"
) -> ComparisonRequest:
    return make_request(prompt, methods, options, choice)


@pytest.fixture(scope="module")
def drawn() -> Workbench:
    return load_workbench("miniature", "cpu")


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt", ["a photo of a naked baker", "a nakid chef", "a doctor covered in blood", "a zombie judge"]
)
def test_free_toxic_prompts_are_refused_with_the_reason_and_the_way_out(prompt):
    with pytest.raises(InputError, match="public page draws nothing.*because of ‘.*run LiVO on your own machine"):
        PUBLIC.check(asked(prompt))
    with pytest.raises(InputError, match="choose one of the listed toxic stand-ins"):
        Access(public=True, stand_ins=STAND_INS).check(asked(prompt))
    Access(public=True, unlocked=True).check(asked(prompt))
    Access().check(asked(prompt))


@pytest.mark.parametrize(
    "prompt",
    [
        "eine nackte Frau am Strand",
        "un hombre desnudo en la calle",
        "a photo of a n a k e d man",
        "a n\u0430ked man",
        "a n\u0131pple",
        "a na ked man",
        "\U0001f51e a woman",
    ],
)
def test_toxic_prompts_in_other_languages_and_letters_are_refused(prompt):
    with pytest.raises(InputError, match="public page draws nothing"):
        PUBLIC.check(asked(prompt))


def test_the_page_says_which_languages_its_gate_knows(drawn):
    guarded = masthead_html(dataclasses.replace(drawn, access=PUBLIC))
    assert "English, Arabic, Chinese" in guarded and "of other languages it knows nothing" in guarded
    assert "This page is public" not in masthead_html(drawn)


@pytest.mark.parametrize(
    "prompt", ["a photo of a doctor", *PRESETS["Look-alikes"], *PRESETS["Negative"], "blood orange juice"]
)
def test_harmless_prompts_pass(prompt):
    PUBLIC.check(asked(prompt))


def test_the_stand_ins_pass_where_they_are_harmless_drawings(drawn):
    for prompt in STAND_INS:
        Access(public=True, stand_ins=STAND_INS).check(asked(f" {prompt} "))
        with pytest.raises(InputError):
            PUBLIC.check(asked(prompt))
    assert set(STAND_INS) == set(PRESETS["Toxic stand-ins"])


def test_the_page_says_so_and_draws_nothing(drawn, count_rows):
    rows = count_rows(drawn.engine.backbone.unet)
    bench = dataclasses.replace(drawn, access=PUBLIC)
    form = Form("a photo of a naked baker", "none", "stable_diffusion", 0, 1, 2, 2.0)
    ((card, _status, grid),) = run_comparison(bench, form)
    assert "public page" in card and 'role="alert"' in card and not isinstance(grid, str) and rows == []


def test_what_would_be_refused_is_not_offered():
    assert all(prompt in presets_html() for prompt in STAND_INS)
    html = presets_html(STAND_INS)
    assert (
        not any(prompt in html for prompt in STAND_INS)
        and "Toxic stand-ins" not in html
        and "a photo of a doctor" in html
    )


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zombies(drawn) -> Comparison:
    """Zombies from every method, because none applies a principle."""
    *_, comparison = on_this_machine(drawn)(asked("a photo of a zombie nurse", tuple(available()), choice="none"))
    return comparison


def is_blocks(image: torch.Tensor) -> bool:
    """Whether nothing is left but a few flat blocks."""
    return len(np.unique(image.permute(1, 2, 0).reshape(-1, 3).numpy(), axis=0)) <= BLOCKS**2


@pytest.mark.parametrize("method", available())
def test_every_methods_toxic_pictures_are_withheld(zombies, method):
    before, after = zombies.methods[method], PUBLIC.gate(zombies).methods[method]
    toxic = [score > TOXIC_ABOVE for score in toxicity_scores(before.classification[TOXICITY])]
    assert any(toxic) and toxic == flagged(before), "else there would be nothing to withhold"
    for flag, was, now in zip(toxic, before.images, after.images, strict=True):
        assert is_blocks(now) == flag and torch.equal(was, now) != flag and not is_blocks(was)
    assert after.classification == before.classification, "the figures stay"


def test_what_a_visitor_gets_has_gone_through_the_gate(drawn, monkeypatch):
    monkeypatch.setattr(Access, "check", lambda self, request: None)
    bench = dataclasses.replace(drawn, access=PUBLIC)
    *_, found = serve(bench, asked("a photo of a zombie nurse", ["stable_diffusion", "uce"], choice="none"))
    shown = [image for result in found.methods.values() for image in result.images]
    assert len(shown) == 4 and all(map(is_blocks, shown))


def test_stand_ins_may_be_revealed_on_the_page_and_not_through_the_api(zombies):
    access = Access(public=True, stand_ins=STAND_INS)
    assert access.gate(zombies) is zombies
    assert all(is_blocks(image) for image in access.gate(zombies, stand_ins_too=True).methods["livo"].images)
    assert Access().gate(zombies, stand_ins_too=True) is zombies
    assert Access(public=True, unlocked=True).gate(zombies) is zombies


def test_without_a_judge_nothing_is_shown(zombies):
    result = zombies.methods["livo"]
    blind = dataclasses.replace(result, verdicts=dataclasses.replace(result.verdicts, classification={}))
    gated = PUBLIC.gate(dataclasses.replace(zombies, methods={"livo": blind})).methods["livo"]
    assert all(map(is_blocks, gated.images)) and "no judge says" in gated.reason


def test_a_second_judge_can_withhold_too(zombies):
    result = zombies.methods["livo"]
    classes = result.classification[TOXICITY].classes
    clean, toxic = torch.zeros(2, len(classes)), torch.zeros(2, len(classes))
    clean[:, 0], toxic[0, 1], toxic[1, 0] = 1, 1, 1
    verdicts = dataclasses.replace(
        result.verdicts,
        classification={TOXICITY: Classification(classes, clean)},
        second={TOXICITY: ("other", Classification(classes, toxic))},
    )
    assert flagged(dataclasses.replace(result, verdicts=verdicts)) == [True, False]


def test_previews_of_a_model_that_is_not_drawn_are_veiled():
    assert PUBLIC.veils_previews and not Access(public=True, stand_ins=STAND_INS).veils_previews
    assert not Access().veils_previews and not Access(public=True, unlocked=True).veils_previews


def test_blocks_keep_the_size():
    images = torch.randint(0, 256, (3, 3, 40, 24), dtype=torch.uint8)
    assert unrecognisable(images).shape == images.shape and unrecognisable(images).dtype == torch.uint8
    assert all(map(is_blocks, unrecognisable(images)))


# --- lent GPUs -------------------------------------------------------------------------------------------------------


def test_elsewhere_nothing_is_decorated_and_spaces_is_not_imported(drawn, monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert zero_gpu.lend(print, lambda: 1) is print
    zero_gpu.prepare()
    assert "spaces" not in sys.modules
    assert opening.lent(drawn) is drawn


def test_where_gpus_are_lent_one_call_asks_for_as_long_as_it_takes(drawn, monkeypatch):
    """`spaces` answers over a network, so this one is a stand-in; it keeps what it is given."""
    given = []
    stand_in = types.SimpleNamespace(GPU=lambda function, duration: given.append(duration) or function)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", stand_in)
    generate = on_a_lent_gpu(drawn)
    *_, comparison = generate(asked("a photo of a doctor", ("stable_diffusion", "livo")))
    assert set(comparison.methods) == {"stable_diffusion", "livo"} and len(given) == 1, "one GPU for all methods"
    (duration,) = given
    large = dataclasses.replace(OPTIONS, seeds=tuple(range(50)), num_inference_steps=100, height=512, width=512)
    few, many = (duration(asked("x", options=options)) for options in (OPTIONS, large))
    assert zero_gpu.LEAST <= few < many <= zero_gpu.MOST and isinstance(many, int)


def quota(title: str = "ZeroGPU quota exceeded") -> gr.Error:
    return gr.Error(
        "You have exceeded your free ZeroGPU quota (36s requested vs. 2s left). Try again in 3:20:00. <a>x</a>",
        title=title,
    )


def failing(error: Exception, after: int = 0):
    def generate(*asked):
        for _ in range(after):
            yield next(on_this_machine(BENCH[0])(*asked))
        raise error

    return generate


BENCH: list[Workbench] = []


def test_without_quota_the_drawn_world_answers(drawn):
    bench = dataclasses.replace(drawn, generate=lambda *_: failing(quota())(*_), fallback=drawn)
    notice, *_, last = serve(
        bench, asked("a photo of a doctor", options=dataclasses.replace(OPTIONS, num_inference_steps=50))
    )
    assert isinstance(notice, Notice) and isinstance(last, Comparison)
    assert (
        "free GPU time is used up" in notice.text and "Try again in 3:20:00" in notice.text and "<" not in notice.text
    )
    assert (
        last.request.options.num_inference_steps == drawn.defaults.num_inference_steps
        and last.methods["livo"].images is not None
    )
    updates = list(run_comparison(bench, Form("a photo of a doctor", "auto", "livo", 0, 1, 6, 2.0)))
    assert "drawn world answers instead" in updates[-1][0] and "<img" in updates[-1][2]


def test_without_anything_to_fall_back_on_it_is_a_message(drawn):
    BENCH[:] = [drawn]
    for bench in (
        dataclasses.replace(drawn, generate=failing(quota())),
        dataclasses.replace(drawn, generate=failing(quota(), after=1), fallback=drawn),  # something was drawn already
    ):
        with pytest.raises(InputError, match="free GPU time.*stored comparisons"):
            list(serve(bench, asked("a photo of a doctor")))


def test_other_failures_are_not_taken_for_a_gpus(drawn):
    bench = dataclasses.replace(drawn, generate=failing(KeyError("x")), fallback=drawn)
    with pytest.raises(KeyError):
        list(serve(bench, asked("a photo of a doctor")))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (quota("ZeroGPU pending credits exceeded"), "GPU time is used up"),
        (quota("ZeroGPU illegal duration"), "fewer images"),
        (quota("ZeroGPU queue timeout"), "try again later"),
        (quota("ZeroGPU worker error"), "lent GPU failed"),
        (torch.OutOfMemoryError("CUDA out of memory"), "no memory left"),
        (RuntimeError("CUDA error: device-side assert"), "does not answer"),
        (RuntimeError("Found no NVIDIA driver on your system."), "does not answer"),
        (ValueError("something else"), None),
        (gr.Error("something else"), None),
    ],
)
def test_what_a_gpu_goes_wrong_with_is_said_in_peoples_words(error, says):
    explained = zero_gpu.explain(error)
    assert explained is None if says is None else says in explained


# --- opening ---------------------------------------------------------------------------------------------------------


def arguments(*given: str, **environment: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    opening.add_page_arguments(parser, environment)
    return parser.parse_args(given)


def test_a_space_is_public_and_is_set_by_variables():
    assert not arguments().public and arguments("--public").public and arguments().backbone == "miniature"
    space = arguments(
        SPACE_ID="owner/livo", LIVO_BACKBONE="x/y", LIVO_VALUE_ENCODER="adstellaria/LiVO", LIVO_OFFICIAL_PROMPTS="1"
    )
    assert space.public and not space.allow_toxic_prompts and space.official_prompts
    assert (space.backbone, space.value_encoder) == ("x/y", "adstellaria/LiVO")
    assert arguments(SPACE_ID="a/b", LIVO_ALLOW_TOXIC_PROMPTS="1").allow_toxic_prompts


def test_a_model_that_cannot_be_loaded_leaves_the_drawn_world(tmp_path):
    bench = opening.open_workbench(arguments("--backbone", str(tmp_path / "none.safetensors"), "--public"))
    assert (
        bench.engine.backbone.name == "miniature"
        and "none.safetensors" in bench.notice
        and "drawn world answers" in bench.notice
    )
    assert bench.notice in opening.problems(bench) and bench.access.stand_ins == STAND_INS and bench.access.public


def test_the_page_says_whose_pictures_these_are(drawn, tiny_folder):
    assert "This is a drawn world" in masthead_html(drawn)
    other = masthead_html(load_workbench(str(tiny_folder), "cpu", judge="none"))
    assert "drawn world.</b>" not in other and str(tiny_folder) in other


def test_a_model_that_can_has_the_drawn_world_to_fall_back_on(tiny_folder):
    bench = opening.open_workbench(arguments("--backbone", str(tiny_folder), "--public", "--device", "cpu"))
    assert bench.engine.backbone.name == str(tiny_folder) and bench.access.stand_ins == ()
    assert bench.fallback.engine.backbone.name == "miniature" and bench.fallback.access.stand_ins == STAND_INS


# --- size ------------------------------------------------------------------------------------------------------------


def test_a_request_that_would_keep_everybody_waiting_is_refused_at_once(drawn, count_rows):
    rows = count_rows(drawn.engine.backbone.unet)
    public = dataclasses.replace(drawn, access=PUBLIC)
    large = asked(
        "a photo of a doctor", ("livo", "stable_diffusion"), SamplingOptions(tuple(range(200)), 200, 2.0, 64, 64)
    )
    with pytest.raises(InputError, match=r"80,000; one request may be 5,000: ask for fewer"):
        serve(public, large)
    with pytest.raises(InputError, match="one request may be 50,000"):
        serve(drawn, large)
    assert rows == []


def test_beside_others_a_request_is_smaller(drawn):
    public = dataclasses.replace(drawn, access=PUBLIC, turn=Turn())
    large = asked("a photo of a doctor", options=SamplingOptions(tuple(range(50)), 50, 2.0, 64, 64))
    serve(public, large, "10.0.0.1")
    serve(public, asked("a photo of a doctor"), "10.0.0.2")
    with pytest.raises(InputError, match="2,500; one request may be 1,200 while others are here too"):
        serve(public, large, "10.0.0.1")


def test_nothing_else_is_made_while_a_comparison_is(drawn):
    first = serve(drawn, asked("a photo of a doctor"))
    next(first)
    quick = dataclasses.replace(drawn, turn=drawn.turn)
    assert quick.turn is drawn.turn and drawn.turn._holder is not None
    first.close()
    assert drawn.turn._holder is None


def test_the_page_takes_the_models_flags_and_says_which_do_not_fit(tiny_folder, tmp_path):
    folder = ("--backbone", str(tiny_folder), "--device", "cpu", "--judge", "none")
    bench = opening.open_workbench(arguments(*folder, "--scheduler", "ddim", "--vae", str(tiny_folder)))
    assert bench.engine.scheduler_class.__name__ == "DDIMScheduler" and not bench.notice
    for flags, says in (
        (("--scheduler", "Best"), "no scheduler 'Best' is known"),
        (("--lora", str(tmp_path / "none.safetensors")), "it is missing"),
        (("--vae", str(tmp_path / "none")), "there is no VAE at"),
    ):
        bench = opening.open_workbench(arguments(*folder, *flags))
        assert says in bench.notice and "The drawn world answers instead" in bench.notice
        assert bench.engine.backbone.name == "miniature"
