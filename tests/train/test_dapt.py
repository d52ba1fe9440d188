from __future__ import annotations

import functools
import json
import random
import sys
from collections import Counter

import pytest
import torch
from diffusers import DDPMScheduler
from plans import state_hash

import train.dapt as trainer
import train.edits.training as shared
from livo.methods.edited_weights import load_projection, projection_weights
from livo.miniature.captions import toxic_phrase
from livo.miniature.world import GENDERS, TOXIC_KINDS, load_world
from livo.principles import find_principle
from train.dapt import DaptConfig, draw_example, train_dapt
from train.edits.training import student_of
from train.loop import train
from train.miniature.data import render_batch

WORLD = load_world()
GENDER, RACE, BLOODY = (find_principle(id) for id in ("gender_equality", "racial_equality", "bloody"))


def small(world, scenes) -> torch.Tensor:
    """Every fourth pixel: the tiny backbone's own 16 x 16."""
    return render_batch(world, scenes)[:, :, ::4, ::4].contiguous()


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(trainer, "render_batch", small)


def examples(principle, count=400):
    rng = random.Random(0)
    return [draw_example(WORLD, principle, k, rng) for k in range(count)]


@pytest.mark.parametrize(("principle", "attribute", "classes"), [
    (GENDER, "gender", GENDERS), (RACE, "tone", tuple(WORLD.tones)),
])  # fmt: skip
def test_against_bias_each_class_is_shown_equally_often_and_never_named(principle, attribute, classes):
    drawn = examples(principle)
    assert Counter(getattr(scene, attribute) for _, scene in drawn) == {name: 400 // len(classes) for name in classes}
    assert not [text for text, _ in drawn if {"male", "female", "man", "woman", "skin"} & set(text.split())]
    # Balanced within what is planted unevenly too, whatever the concept's own share.
    strong = [s for _, s in drawn if s.occupation and not 0.1 < WORLD.occupations[s.occupation]["female"] < 0.9]
    assert len(strong) > 50
    if attribute == "gender":
        assert 0.35 < sum(s.gender == "female" for s in strong) / len(strong) < 0.65


@pytest.mark.parametrize("kind", TOXIC_KINDS)
def test_against_toxicity_clean_pictures_go_with_toxic_prompts(kind):
    drawn = examples(find_principle(kind), 300)
    assert {scene.toxic for _, scene in drawn} == {None}
    wordings = [toxic_phrase(w, "|").split("|") for w in WORLD.toxic[kind]]
    found = Counter(next(i for i, w in enumerate(wordings) if all(part in text for part in w)) for text, _ in drawn)
    assert set(found) == {0, 1, 2} and all(abs(n / 300 - 1 / 3) < 0.1 for n in found.values())


def test_one_step_is_a_plain_fine_tuning_step(tiny_backbone, tmp_path):
    config = DaptConfig(num_steps=1, batch_size=3, learning_rate=0.02, seed=2)
    student, _ = train_dapt(tiny_backbone, WORLD, BLOODY, config, tmp_path)

    plain, learning = student_of(tiny_backbone.unet)
    optimizer = torch.optim.AdamW(learning, lr=0.02 / 20, weight_decay=1e-2)  # step 1 of 20 of the warm-up
    torch.manual_seed(70_000 + 1_000_000 * 2)
    rng = random.Random("2 0")
    drawn = [draw_example(WORLD, BLOODY, k, rng) for k in range(3)]
    with torch.no_grad():
        pixels = small(WORLD, [scene for _, scene in drawn]).float() / 127.5 - 1
        latents = tiny_backbone.vae.encode(pixels).latent_dist.sample() * tiny_backbone.vae.config.scaling_factor
        texts = torch.cat([tiny_backbone.text_encoder(tiny_backbone.tokenize(text))[0] for text, _ in drawn])
    noise, t = torch.randn(3, 4, 8, 8), torch.randint(0, 1000, (3,))
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    loss = torch.nn.functional.mse_loss(plain(schedule.add_noise(latents, noise, t), t, texts).sample, noise)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learning, 1.0)
    optimizer.step()

    (row,) = json.loads((tmp_path / "bloody_log.json").read_text(encoding="utf-8"))["log"]
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
    ours, theirs, base = (projection_weights(unet) for unet in (student, plain, tiny_backbone.unet))
    for name in base:
        # Where a gradient is near AdamW's epsilon, rounding alone decides the step: hence not every single one.
        assert ((ours[name] - theirs[name]).abs() < 1e-6).float().mean() > 0.999
        assert (ours[name] - base[name]).abs().mean() > 5e-4


def test_only_k_and_v_of_a_copy_learn(tiny_backbone, tmp_path):
    before = state_hash(tiny_backbone.unet)
    student, seconds = train_dapt(tiny_backbone, WORLD, GENDER, DaptConfig(num_steps=3, batch_size=2), tmp_path)
    assert state_hash(tiny_backbone.unet) == before and seconds > 0
    base = tiny_backbone.unet.state_dict()
    moved = {name for name, weight in student.state_dict().items() if not torch.equal(weight, base[name])}
    assert moved == set(projection_weights(student))


class Killed(BaseException):
    pass


def test_a_killed_run_ends_as_an_uninterrupted_one(tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "train", functools.partial(train, save_every_seconds=-1))
    run = functools.partial(train_dapt, tiny_backbone, WORLD, RACE, DaptConfig(num_steps=52, batch_size=1))
    whole, _ = run(tmp_path / "whole")
    steps = iter(range(51))

    def dies(world, scenes):
        if next(steps, None) is None:
            raise Killed
        return small(world, scenes)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer, "render_batch", dies)
        run(tmp_path / "killed")
    torch.manual_seed(99)
    resumed, _ = run(tmp_path / "killed")
    assert state_hash(whole) == state_hash(resumed) != state_hash(tiny_backbone.unet)


def test_the_command_writes_what_it_trained(tiny_folder, tiny_backbone, tmp_path, monkeypatch):
    line = f"x --backbone {tiny_folder} --principles nudity racial_equality --num-steps 2 --batch-size 2 --threads 1"
    monkeypatch.setattr(sys, "argv", [*line.split(), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])
    trainer.main()
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"nudity", "racial_equality"}
    _, training = load_projection(tmp_path / "out" / "nudity.safetensors", tiny_backbone.unet, "")
    assert training.pop("seconds") >= 0
    assert training.pop("settings") == {
        "num_steps": 2, "batch_size": 2, "seed": 0, "learning_rate": 0.001, "weight_decay": 0.01
    }  # fmt: skip
    assert training == {"images": 4, "command": "python -m train.dapt --principles nudity --num-steps 2 --batch-size 2"}
