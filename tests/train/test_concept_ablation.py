from __future__ import annotations

import functools
import json
import random
import sys
from collections import Counter

import pytest
import torch
from plans import state_hash

import train.concept_ablation as trainer
import train.edits.training as shared
from baselines.concept_ablation import load_unet, unet_path
from baselines.stable_diffusion import StableDiffusion
from livo.methods.edited_weights import load_projection, projection_weights
from livo.miniature.captions import article
from livo.miniature.world import TOXIC_KINDS, load_world
from train.concept_ablation import AblationConfig, ablate, ablation_loss, anchor_latents, draw_anchors
from train.edits.training import encode_prompts
from train.loop import train

WORLD = load_world()
ANCHORS = draw_anchors(WORLD, 6, 0)


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(len(ANCHORS), 4, 8, 8, generator=torch.Generator().manual_seed(2))


def log_of(folder, kind="nudity") -> list[dict]:
    rows = json.loads((folder / f"{kind}_log.json").read_text(encoding="utf-8"))["log"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_the_loss_divides_a_sum_over_channels_by_a_mask_of_one():
    prediction, anchor = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 1, 8, 8)
    by_picture = [(mask[b] * (prediction[b] - anchor[b]) ** 2).sum() / mask[b].sum() for b in range(3)]
    loss = ablation_loss(prediction, anchor)
    assert loss == pytest.approx(sum(by_picture).item() / 3, rel=1e-6)
    assert loss == pytest.approx(4 * torch.nn.functional.mse_loss(prediction, anchor).item(), rel=1e-6)


def test_the_teacher_gets_no_gradient():
    prediction, anchor = (torch.randn(1, 4, 2, 2, requires_grad=True) for _ in range(2))
    ablation_loss(prediction, anchor).backward()
    assert prediction.grad is not None and anchor.grad is None


def test_anchors_are_clean_and_hold_nothing_that_evaluation_uses():
    anchors = draw_anchors(WORLD, 400, 0)
    prompts = [anchor.prompt(WORLD) for anchor in anchors]
    assert prompts == [anchor.prompt(WORLD) for anchor in draw_anchors(WORLD, 400, 0)] and len(set(prompts)) > 300
    text = f" {' | '.join(prompts)} "
    toxic = {word for group in WORLD.toxic.values() for w in group for word in w.split()} & {
        "naked", "nude", "clothes", "unclothed", "bloody", "blood", "bloodied", "zombie", "undead",
    }  # fmt: skip
    held = [*WORLD.held_out["occupations"], *WORLD.held_out["adjectives"], *WORLD.openings["evaluation"]]
    assert len(toxic) == 9 and not [word for word in (*toxic, *held) if f" {word} " in text]
    assert 0.2 < sum(anchor.name_gender for anchor in anchors) / 400 < 0.4


@pytest.mark.parametrize("kind", TOXIC_KINDS)
def test_a_target_is_its_anchor_with_the_wording(kind):
    for anchor in ANCHORS:
        clean, (first, *rest) = anchor.prompt(WORLD), [anchor.target(WORLD, kind, w) for w in range(3)]
        adjective = WORLD.toxic[kind][0].split()[1]
        noun = first.removeprefix(f"{anchor.opening} a {adjective} ")
        assert clean == f"{anchor.opening} {article(noun)} {noun}"
        assert len({clean, first, *rest}) == 4


def test_training_draws_each_training_wording_equally_often_and_never_the_held_out_one(
    tiny_backbone, latents, tmp_path, monkeypatch
):
    read = []

    def record(backbone, prompts):
        read.append(prompts)
        return encode_prompts(backbone, prompts)

    monkeypatch.setattr(trainer, "encode_prompts", record)
    ablate(tiny_backbone, WORLD, "bloody", ANCHORS, latents, AblationConfig(num_steps=6, batch_size=16), tmp_path)
    counts = Counter()
    for clean, toxic in zip(read[::2], read[1::2], strict=True):
        for c, t in zip(clean, toxic, strict=True):
            (anchor,) = {a for a in ANCHORS if a.prompt(WORLD) == c}
            counts[[anchor.target(WORLD, "bloody", w) for w in range(4)].index(t)] += 1
    assert WORLD.held_out["toxic_wording"] == 3 and set(counts) == {0, 1, 2}
    assert all(abs(n / counts.total() - 1 / 3) < 0.15 for n in counts.values())


@torch.no_grad()
def by_hand(backbone, latents, config) -> tuple[float, float]:
    """The gap and the prior at step 0, one picture at a time: the student is the backbone's U-Net still."""
    rng = random.Random(f"{config.seed} 0")
    chosen = [rng.randrange(len(ANCHORS)) for _ in range(config.batch_size)]
    wordings = [rng.choice([0, 1, 2]) for _ in chosen]
    torch.manual_seed(70_000 + 1_000_000 * config.seed)
    noise = torch.randn(len(chosen), 4, 8, 8)
    timesteps = torch.randint(0, 1000, (len(chosen),)).tolist()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    gap = prior = 0.0
    for k, (index, wording) in enumerate(zip(chosen, wordings, strict=True)):
        a = alphas[timesteps[k]].item()
        noisy = a**0.5 * latents[index] + (1 - a) ** 0.5 * noise[k]
        texts = ANCHORS[index].target(WORLD, "nudity", wording), ANCHORS[index].prompt(WORLD)
        target, anchor = (
            backbone.unet(noisy[None], timesteps[k], backbone.text_encoder(backbone.tokenize(text))[0]).sample[0]
            for text in texts
        )
        gap += (target - anchor).double().square().sum().item() / 64
        prior += (anchor - noise[k]).double().square().mean().item()
    return gap / len(chosen), prior / len(chosen)


@pytest.mark.parametrize("prior_weight", [0.0, 0.5])
def test_the_first_loss_by_hand(tiny_backbone, latents, tmp_path, prior_weight):
    config = AblationConfig(num_steps=1, batch_size=3, prior_weight=prior_weight, seed=4)
    ablate(tiny_backbone, WORLD, "nudity", ANCHORS, latents, config, tmp_path)
    (row,) = log_of(tmp_path)
    gap, prior = by_hand(tiny_backbone, latents, config)
    assert row["gap"] == pytest.approx(gap, rel=1e-4) and row["prior"] == pytest.approx(prior, rel=1e-4)
    assert row["loss"] == pytest.approx(gap + prior_weight * prior, rel=1e-4)


def moved_by(student, unet) -> set[str]:
    base = unet.state_dict()
    return {name for name, weight in student.state_dict().items() if not torch.equal(weight, base[name])}


def test_it_learns_and_the_shared_unet_is_not_written_to(tiny_backbone, latents, tmp_path):
    before = state_hash(tiny_backbone.unet)
    config = AblationConfig(num_steps=75, batch_size=2)
    student, seconds = ablate(tiny_backbone, WORLD, "nudity", ANCHORS, latents, config, tmp_path)
    assert state_hash(tiny_backbone.unet) == before and seconds > 0
    assert not any(p.requires_grad or p.grad is not None for p in tiny_backbone.unet.parameters())
    assert moved_by(student, tiny_backbone.unet) == set(projection_weights(student))
    first, last = log_of(tmp_path)
    assert last["gap"] < first["gap"]


def test_full_weight_moves_everything_that_is_used(tiny_backbone, latents, tmp_path):
    before = state_hash(tiny_backbone.unet)
    config = AblationConfig(num_steps=2, batch_size=1, parameter_group="full-weight")
    student, _ = ablate(tiny_backbone, WORLD, "nudity", ANCHORS, latents, config, tmp_path / "work")
    assert state_hash(tiny_backbone.unet) == before
    assert len(moved_by(student, tiny_backbone.unet)) > 0.9 * len(tiny_backbone.unet.state_dict())
    trainer.write(tmp_path, "nudity", student, tiny_backbone, config, 1.0)
    own = load_unet(unet_path(tmp_path, "nudity"), tiny_backbone.unet)
    weights, training = load_projection(tmp_path / "nudity.safetensors", tiny_backbone.unet, "")
    assert training["parameter_group"] == "full-weight"
    assert all(torch.equal(weight.float(), own.get_parameter(name)) for name, weight in weights.items())


class Killed(BaseException):
    pass


def test_a_killed_run_ends_as_an_uninterrupted_one(tiny_backbone, latents, tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "train", functools.partial(train, save_every_seconds=-1))
    config = AblationConfig(num_steps=53, batch_size=1)
    run = functools.partial(ablate, tiny_backbone, WORLD, "nudity", ANCHORS, latents, config)
    whole, _ = run(tmp_path / "whole")
    calls = iter(range(103))

    def dies(backbone, prompts):
        if next(calls, None) is None:
            raise Killed
        return encode_prompts(backbone, prompts)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer, "encode_prompts", dies)
        run(tmp_path / "killed")
    torch.manual_seed(99)
    resumed, _ = run(tmp_path / "killed")
    assert state_hash(whole) == state_hash(resumed) != state_hash(tiny_backbone.unet)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


def test_anchor_pictures_are_the_base_models_and_made_once(engine, tmp_path, monkeypatch, options):
    prompts = [anchor.prompt(WORLD) for anchor in ANCHORS[:2]]
    monkeypatch.setattr(trainer, "encode_images", lambda backbone, images: images.float())
    made, seconds = anchor_latents(engine, prompts, tmp_path / "anchors.pt", seed=0)
    seeds = random.Random("anchor pictures 0").sample(range(2**32 - 1), 2)
    for k, prompt in enumerate(prompts):
        ask = options((seeds[k],), num_inference_steps=25, guidance_scale=7.5)
        (image,) = engine.generate({"sd": StableDiffusion(engine).plan(prompt, None, ask)})["sd"]
        assert (made[k] - image.float()).abs().max() <= 1
    monkeypatch.setattr(engine, "generate", None)
    again, as_before = anchor_latents(engine, prompts, tmp_path / "anchors.pt", seed=0)
    assert torch.equal(again, made) and seconds == as_before > 0


def test_the_command_writes_what_it_trained(tiny_folder, tiny_backbone, tmp_path, monkeypatch):
    line = f"x --backbone {tiny_folder} --principles zombie --num-steps 2 --batch-size 2 --anchors 2 --threads 1"
    monkeypatch.setattr(sys, "argv", [*line.split(), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])
    trainer.main()
    weights, training = load_projection(tmp_path / "out" / "zombie.safetensors", tiny_backbone.unet, "")
    assert training.pop("seconds") >= 0
    settings = training.pop("settings")
    assert (settings["num_steps"], settings["batch_size"], settings["anchors"]) == (2, 2, 2)
    assert training == {
        "images": 2,
        "command": "python -m train.concept_ablation --principles zombie --num-steps 2 --batch-size 2 --anchors 2",
        "parameter_group": "cross-attn",
    }
    base = projection_weights(tiny_backbone.unet)
    assert any(not torch.equal(weight, base[name].half()) for name, weight in weights.items())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["zombie.safetensors"]
