"""A training that somebody watches: its reports, its data, its queue, and its process."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from pairs import lopsided_shares

import train.interactive.run as run
import train.interactive.turns as turns
from baselines.stable_diffusion import load
from livo.classifiers.judge import ClipJudge, load_judge, save_judge
from livo.diffusion.backbones import load_backbone
from livo.evaluation.results import ATTRIBUTE
from livo.live_training import (
    DEFAULT_CONCEPTS,
    FEWEST_STEPS,
    LOSSES,
    MOST_STEPS,
    SHARES,
    Ended,
    LiveRequest,
    Preparing,
    Preview,
    Stepped,
    Waiting,
    stored_shares,
    unpack_encoder,
)
from livo.methods.value_encoder import ValueEncoder, load_value_encoder
from livo.miniature.world import load_world
from livo.runs import weights_digest
from livo.types import InputError
from train.interactive.turns import LiveTrainings
from train.miniature.evaluator import EVALUATOR_CONFIG, world_questions
from train.preference import losses
from train.preference.drawn_pairs import concept_prompts, preferred
from train.preference.trainer import Training, constants

WORLD = load_world()
SMALL = EVALUATOR_CONFIG | {"vision_cfg": EVALUATOR_CONFIG["vision_cfg"] | {"width": 8}}
FEW = LiveRequest(concepts=("surgeon", "cashier"), num_steps=FEWEST_STEPS)


def small_clip() -> torch.nn.Module:
    torch.manual_seed(0)
    return open_clip.CLIP(**SMALL)


@pytest.fixture
def judge() -> ClipJudge:
    return ClipJudge(small_clip(), world_questions(WORLD))


@pytest.fixture
def lopsided(monkeypatch):
    """Every other concept mostly male, the rest mostly female; nothing is generated to find that out."""
    asked = []
    monkeypatch.setattr(
        run,
        "measure_shares",
        lambda engine, judge, concepts, path: asked.append(list(concepts)) or lopsided_shares(WORLD),
    )
    monkeypatch.setattr(run, "PAIRS", 6)
    monkeypatch.setattr(run, "LOOK_IMAGES", 2)
    return asked


def reports(backbone, judge, work, request=FEW) -> list:
    return list(run.train_live(request, backbone, judge, work))


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_the_offered_losses_are_the_trainers_and_have_margins_where_those_do():
    for name, offered in LOSSES.items():
        assert offered.margins == ("gamma_1" in constants(losses.LOSSES[name])), name
    changed = constants(run.loss_of(LiveRequest(gamma_1=2.0, gamma_2=0.25)))
    assert changed == constants(losses.livo_loss) | {"gamma_1": 2.0, "gamma_2": 0.25}
    assert run.loss_of(LiveRequest(loss="dpo", gamma_1=2.0)) is losses.dpo_loss


@pytest.mark.parametrize(("field", "value", "says"), [
    ("concepts", (), "no concept is chosen"),
    ("concepts", tuple("abcdefghijklmnop"), "tick at most"),
    ("principle", "nudity", "no principle"),
    ("loss", "mapo", "no loss"),
    ("gamma_1", -0.1, "no margin"),
    ("gamma_2", float("nan"), "no margin"),
    ("gamma_2", float("inf"), "no margin"),
    ("num_steps", FEWEST_STEPS - 1, "cannot be trained here"),
    ("num_steps", MOST_STEPS + 1, "cannot be trained here"),
])  # fmt: skip
def test_what_cannot_be_trained_is_refused(field, value, says):
    with pytest.raises(InputError, match=says):
        LiveRequest(**{field: value})


def test_the_shipped_shares_are_of_the_shipped_weights_and_teach_the_default_concepts():
    backbone = load_backbone("miniature")
    stored = stored_shares(backbone.folder)
    assert stored.made_by["generator"] == weights_digest(backbone.text_encoder, backbone.unet, backbone.vae)
    assert stored.made_by["judge"] == weights_digest(load_judge(backbone.folder / "evaluator").model)
    assert list(stored.shares) == list(concept_prompts(WORLD))
    for concept in DEFAULT_CONCEPTS:
        counts = stored.shares[concept]["gender"]
        assert max(counts.values()) / sum(counts.values()) >= 0.75 and preferred(counts)[0], concept
    assert stored_shares(None).shares == stored_shares(Path("nowhere")).shares == {}


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_reports_every_step_and_its_encoder_is_what_was_trained(
    tiny_backbone, judge, tmp_path, lopsided, monkeypatch
):
    made = []
    monkeypatch.setattr(run, "Training", lambda *args: made.append(Training(*args)) or made[-1])
    before = weights_digest(tiny_backbone.text_encoder, tiny_backbone.unet, tiny_backbone.vae)
    found = reports(tiny_backbone, judge, tmp_path / "work")
    assert (
        [type(r) for r in found[:2]] == [Preparing, Preview] and isinstance(found[-1], Ended) and not found[-1].problem
    )
    assert lopsided == [list(FEW.concepts)], "only the chosen concepts are asked about"
    steps = [r for r in found if isinstance(r, Stepped)]
    assert [s.step for s in steps] == list(range(1, FEW.num_steps + 1))
    assert {"loss", "chosen past", "rejected past", "chosen drift", "rejected drift"} <= steps[0].numbers.keys()
    looks = [r for r in found if isinstance(r, Preview)]
    first, last = looks[0], looks[-1]
    assert (first.step, first.encoder) == (0, None) and last.step == FEW.num_steps
    assert all(look.prompts == first.prompts and look.seeds == first.seeds for look in looks), (
        "the same prompts and seeds"
    )
    encoder = load_value_encoder(unpack_encoder(last.encoder, tmp_path), tiny_backbone)
    trained, untrained = made[0].encoder.model.state_dict(), tiny_backbone.text_encoder.state_dict()
    state = encoder.model.state_dict()
    assert all(torch.equal(state[key], value.half().float()) for key, value in trained.items())
    assert not all(torch.equal(state[key], value) for key, value in untrained.items())
    assert encoder.artefact.training["steps"] == FEW.num_steps
    assert weights_digest(tiny_backbone.text_encoder, tiny_backbone.unet, tiny_backbone.vae) == before
    assert {row.principle.id for row in made[0].data.rows} == {FEW.principle}
    assert all(any(c in row.prompt for c in FEW.concepts) for row in made[0].data.rows)


def test_a_look_is_stable_diffusion_before_and_the_judges_own_words(engine, judge):
    rare = {"surgeon": {"female"}, "dentist": set(), "rich": {"male"}}
    preview = run.PreviewSampler(engine, judge, "gender_equality", rare, images=6, first_seed=3)
    look = preview.look(None, 0, 0.0)
    assert look.seeds == (3, 4, 5) * 2 and look.images.shape == (6, 16, 16, 3)
    assert set(look.prompts) == {"a photo of a surgeon", "a photo of a rich person"}, (
        "what is drawn evenly is not looked at"
    )
    expected = engine.generate({"x": load(engine).plan("a photo of a rich person", None, preview.options)})["x"]
    assert np.array_equal(look.images[3:], expected.permute(0, 2, 3, 1).numpy())
    answer = judge(expected, "gender")
    assert list(look.labels[3:]) == [None if k is None else answer.classes[k] for k in answer.labels]
    assert list(look.wanted[3:]) == [label == "male" for label in look.labels[3:]]
    assert (
        look.encoder is None and preview.look(ValueEncoder.untrained(engine.backbone), 1, 0.0, b"zip").encoder == b"zip"
    )


def test_numbers_that_are_none_end_the_training_and_say_so(tiny_backbone, judge, tmp_path, lopsided, monkeypatch):
    steps = iter(range(100))
    monkeypatch.setattr(Training, "step", lambda self, i: {"loss": float("nan") if next(steps) == 2 else 1.0})
    found = reports(tiny_backbone, judge, tmp_path)
    assert isinstance(found[-1], Ended) and "loss became nan at step 3" in found[-1].problem
    assert len([r for r in found if isinstance(r, Stepped)]) == 2


@pytest.mark.parametrize(
    ("concepts", "says"), [(("surgeon", "<b>"), "no concept '<b>'"), (("doctor",), "no concept 'doctor'")]
)
def test_concepts_that_are_unknown_or_held_out_are_refused(tiny_backbone, judge, tmp_path, lopsided, concepts, says):
    with pytest.raises(InputError, match=says):
        reports(tiny_backbone, judge, tmp_path, LiveRequest(concepts=concepts, num_steps=FEWEST_STEPS))


def test_where_the_model_is_even_there_is_nothing_to_learn(tiny_backbone, judge, tmp_path, monkeypatch):
    even = {"surgeon": {a: dict.fromkeys(judge.classes(a), 5) for a in ATTRIBUTE.values()}}
    monkeypatch.setattr(run, "measure_shares", lambda *_: even)
    with pytest.raises(InputError, match="nothing to learn"):
        reports(tiny_backbone, judge, tmp_path, LiveRequest(concepts=("surgeon",)))


# --- taking turns ----------------------------------------------------------------------------------------------------


class Instead(LiveTrainings):
    """Trains nothing: three reports, no process."""

    def _train(self, ticket):
        yield from [Preparing("x"), Stepped(1, 2, 1.0, {}), Ended(2.0)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(turns, "POLL_SECONDS", 0.01)


def test_one_trains_and_the_others_wait_in_order_with_an_estimate():
    trainings = Instead()
    one, two, three = (trainings(LiveRequest()) for _ in range(3))
    assert isinstance(next(one), Preparing)
    first, second = next(two), next(three)
    assert isinstance(first, Waiting) and isinstance(second, Waiting)
    assert (first.ahead, second.ahead) == (1, 2) and 0 < first.seconds < second.seconds
    assert list(one) == [Stepped(1, 2, 1.0, {}), Ended(2.0)]
    assert isinstance(next(two), Preparing) and next(three).ahead == 1
    two.close()
    assert [type(r) for r in three] == [Preparing, Stepped, Ended]


def test_who_leaves_while_waiting_is_not_waited_for():
    trainings = Instead()
    one, two, three = (trainings(LiveRequest()) for _ in range(3))
    next(one), next(two), next(three)
    two.close()
    assert next(three).ahead == 1
    one.close()
    assert isinstance(next(three), Preparing)


def test_a_visitor_who_is_heard_of_no_more_loses_the_place(monkeypatch):
    trainings = Instead()
    one, two = trainings(LiveRequest()), trainings(LiveRequest())
    next(one)
    assert isinstance(next(two), Waiting)
    monkeypatch.setattr(turns, "LOST_AFTER", 0.0)
    time.sleep(0.02)
    assert isinstance(next(two), Preparing)


def test_a_queue_that_is_full_says_so_and_takes_others_later(monkeypatch):
    monkeypatch.setattr(turns, "MOST_WAITING", 1)
    trainings = Instead()
    one, two, three = (trainings(LiveRequest()) for _ in range(3))
    next(one), next(two)
    with pytest.raises(InputError, match="wait for a training already"):
        next(three)
    two.close()
    assert isinstance(next(trainings(LiveRequest())), Waiting)


# --- a process -------------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(tiny_folder, tiny_backbone, judge, tmp_path) -> Path:
    """The tiny backbone's folder with a judge and with stored shares."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for path in tiny_folder.iterdir():
        (folder / path.name).symlink_to(path)
    save_judge(judge.model, SMALL, world_questions(WORLD), folder / "evaluator")
    generator = weights_digest(tiny_backbone.text_encoder, tiny_backbone.unet, tiny_backbone.vae)
    made_by = {"generator": generator, "judge": weights_digest(judge.model), "images": 24, "num_steps": 12,
               "guidance_scale": tiny_backbone.defaults.guidance_scale}  # fmt: skip
    (folder / SHARES).write_text(json.dumps({"made_by": made_by, "shares": lopsided_shares(WORLD)}))
    return folder


def test_a_process_trains_reports_and_is_gone_when_its_visitor_is(judged, tmp_path, monkeypatch):
    """One training to its end; another, which its visitor leaves; a third, which crashes."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(turns.tempfile, "tempdir", str(scratch))
    trainings = LiveTrainings(str(judged), threads=1)
    stored = (judged / SHARES).read_bytes()
    *_, last_look, end = trainings(FEW)
    assert isinstance(last_look, Preview) and last_look.step == FEW.num_steps and end == Ended(end.seconds)
    assert (judged / SHARES).read_bytes() == stored and not list(scratch.iterdir()), "read, and nothing is left"
    for ending in ("closed", "killed"):
        reports = trainings(FEW)
        next(reports)
        process = trainings._tickets[0].process
        assert process.is_alive()
        if ending == "closed":
            reports.close()
        else:
            os.kill(process.pid, signal.SIGKILL)
            *_, last = reports
            assert isinstance(last, Ended) and "exit code -9" in last.problem
        assert not process.is_alive() and not trainings._tickets and not list(scratch.iterdir())


class Sent(list):
    """A connection that keeps what is sent, and closes after so many."""

    def __init__(self, most: int = 99) -> None:
        self.most = most

    def send(self, update) -> None:
        if len(self) == self.most:
            raise BrokenPipeError
        self.append(update)


@pytest.fixture
def in_process(monkeypatch):
    """`train_in_process` here, without what would change this process."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(turns.os, "nice", lambda by: None)
    monkeypatch.setattr(turns.signal, "signal", lambda *_: None)
    return turns.train_in_process


def test_the_process_ends_when_nobody_reads_and_says_what_failed(in_process, judged, tiny_folder, tmp_path, lopsided):
    alone = Sent(most=3)
    in_process(alone, FEW, str(judged), tmp_path / "a", 1)
    assert len(alone) == 3
    without, unknown, broken = Sent(), Sent(), Sent()
    in_process(without, FEW, str(tiny_folder), tmp_path / "b", 1)
    assert isinstance(without[0], InputError) and "has no judge" in str(without[0])
    in_process(unknown, LiveRequest(concepts=("doctor",)), str(judged), tmp_path / "c", 1)
    assert isinstance(unknown[-1], InputError) and "no concept 'doctor'" in str(unknown[-1])
    in_process(broken, FEW, str(tmp_path / "none"), tmp_path / "d", 1)
    assert isinstance(broken[0], Ended) and "there is no backbone folder" in broken[0].problem
