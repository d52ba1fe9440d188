from __future__ import annotations

import functools
import json
import random

import pytest
import torch

import train.value_encoder as trainer
from livo.miniature.world import load_world
from livo.principles import load_principles
from livo.value_encoder import ValueEncoder, load_value_encoder, save_value_encoder
from train.loop import train
from train.miniature.data import render_batch
from train.preference import PairMaker, training_concepts
from train.value_encoder import Config, train_value_encoder

WORLD = load_world()


@pytest.fixture(scope="module")
def maker() -> PairMaker:
    lopsided = {"gender": {"male": 22, "female": 2}, "tone": dict(zip(WORLD.tones, (20, 1, 1, 1, 1), strict=True))}
    other = {"gender": {"male": 2, "female": 22}, "tone": dict(zip(WORLD.tones, (1, 1, 1, 1, 20), strict=True))}
    concepts = sum(training_concepts(WORLD), [])
    return PairMaker(WORLD, load_principles(), {c: (lopsided, other)[i % 2] for i, c in enumerate(concepts)})


def small(world, scenes) -> torch.Tensor:
    """Every fourth pixel: the tiny backbone's own 16 x 16."""
    return render_batch(world, scenes)[:, :, ::4, ::4].contiguous()


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(trainer, "render_batch", small)


def weights(module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(a: dict, b: dict) -> list[bool]:
    assert a.keys() == b.keys()
    return [torch.equal(a[key], b[key]) for key in a]


def log_of(folder) -> list[dict]:
    rows = json.loads((folder / "value_encoder_log.json").read_text(encoding="utf-8"))["log"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@torch.no_grad()
def loss_by_hand(backbone, maker, config, *, same_noise: bool = True, value_in_reference: bool = False) -> float:
    """Eq. 6 at step 0 of a run, one picture at a time, from the equations alone."""
    pairs = [maker.pair(rng) for rng in [random.Random(f"{config.seed} 0")] for _ in range(config.batch_size)]
    torch.manual_seed(90_000 + 1_000_000 * config.seed)
    x = small(WORLD, [p.chosen for p in pairs] + [p.rejected for p in pairs]).float() / 127.5 - 1
    z0 = backbone.vae.encode(x).latent_dist.sample() * backbone.vae.config.scaling_factor
    noise = torch.randn(len(pairs), *z0.shape[1:])
    timesteps = torch.randint(0, 1000, (len(pairs),)).tolist()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    value_encoder = ValueEncoder.untrained(backbone)
    total = 0.0
    for k, pair in enumerate(pairs):
        prompt = backbone.text_encoder(backbone.tokenize(pair.prompt)).last_hidden_state
        assert prompt.shape[1] == 77
        token = value_encoder.encode(pair.principle.text, pair.prompt)
        steered = torch.cat([token[None, None], prompt], dim=1)
        assert steered.shape[1] == 78
        errors = {}
        for side, image in (("w", k), ("l", k + len(pairs))):
            eps = noise[k if same_noise or side == "w" else (k + 1) % len(pairs)]
            a = alphas[timesteps[k]].item()
            zt = a**0.5 * z0[image] + (1 - a) ** 0.5 * eps
            for name, context in (("theta", steered), ("ref", steered if value_in_reference else prompt)):
                predicted = backbone.unet(zt[None], timesteps[k], context).sample[0]
                errors[name, side] = (predicted - eps).double().square().mean().item()
        chosen = config.gamma_1 + config.beta * (errors["theta", "w"] - errors["ref", "w"])
        rejected = config.gamma_2 + config.alpha * (errors["ref", "l"] - errors["theta", "l"])
        total += max(0.0, chosen) + max(0.0, rejected)
    return total / len(pairs)


def test_the_first_loss_is_equation_6_by_hand(tiny_backbone, maker, tmp_path):
    config = Config(num_steps=1, batch_size=3, seed=4)
    train_value_encoder(tiny_backbone, maker, config, tmp_path)
    (row,) = log_of(tmp_path)
    by_hand = loss_by_hand(tiny_backbone, maker, config)
    assert row["loss"] == pytest.approx(by_hand, abs=2e-3)
    # The comparison can fail: it sees the value token's absence from the reference, and the shared noise.
    assert abs(row["loss"] - loss_by_hand(tiny_backbone, maker, config, value_in_reference=True)) > 0.01
    assert abs(row["loss"] - loss_by_hand(tiny_backbone, maker, config, same_noise=False)) > 0.01


def test_where_the_value_changes_nothing_the_loss_is_the_two_margins(tiny_backbone, maker):
    config = Config(batch_size=2)
    assert loss_by_hand(tiny_backbone, maker, config, value_in_reference=True) == 1.5


def test_only_the_value_encoder_moves(tiny_backbone, maker, tmp_path):
    frozen = {name: getattr(tiny_backbone, name) for name in ("text_encoder", "unet", "vae")}
    before = {name: weights(part) for name, part in frozen.items()}
    encoder = train_value_encoder(tiny_backbone, maker, Config(num_steps=3, batch_size=2), tmp_path)
    for name, part in frozen.items():
        assert all(same(before[name], weights(part))), f"{name} was written to"
        assert all(p.grad is None and not p.requires_grad for p in part.parameters()) and not part.training
    assert encoder.model is not tiny_backbone.text_encoder
    moved = [not s for s in same(before["text_encoder"], weights(encoder.model))]
    assert all(moved), "every tensor of the value encoder learns"
    assert not encoder.model.training and not any(p.requires_grad for p in encoder.model.parameters())
    # The check can fail: a part that trains too is noticed.
    with torch.no_grad():
        broken = weights(tiny_backbone.unet)
        next(iter(broken.values())).add_(1e-6)
    assert not all(same(before["unet"], broken))


def test_the_log_says_what_was_run_and_how_it_went(tiny_backbone, maker, tmp_path):
    config = Config(num_steps=2, batch_size=2, gamma_1=0.25)
    train_value_encoder(tiny_backbone, maker, config, tmp_path)
    stored = json.loads((tmp_path / "value_encoder_log.json").read_text(encoding="utf-8"))
    assert stored["config"]["gamma_1"] == 0.25 and stored["config"]["num_steps"] == 2
    assert set(stored["log"][0]) == {
        "step", "loss", "chosen past margin", "rejected past margin", "chosen drift", "rejected drift", "seconds",
    }  # fmt: skip


def test_it_learns_one_pair(tiny_backbone, maker, tmp_path):
    """One scene, again and again: both margins of Eq. 6 come closer."""

    class One:
        world = WORLD
        pair = staticmethod(lambda rng, one=maker.pair(random.Random(3)): one)

    config = Config(num_steps=100, batch_size=1, learning_rate=1e-3)
    train_value_encoder(tiny_backbone, One(), config, tmp_path)
    first, last = log_of(tmp_path)
    assert last["loss"] < first["loss"]


class Killed(BaseException):
    pass


def test_a_killed_run_ends_as_an_uninterrupted_one(tiny_backbone, maker, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "train", functools.partial(train, save_every_seconds=-1))
    config = Config(num_steps=53, batch_size=1)
    whole = train_value_encoder(tiny_backbone, maker, config, tmp_path / "whole_work")

    class Dies:
        world, left = WORLD, 51

        def pair(self, rng):
            self.left -= 1
            if self.left < 0:
                raise Killed
            return maker.pair(rng)

    with pytest.raises(Killed):
        train_value_encoder(tiny_backbone, Dies(), config, tmp_path / "killed")
    torch.manual_seed(99)
    resumed = train_value_encoder(tiny_backbone, maker, config, tmp_path / "killed")
    assert all(same(weights(whole.model), weights(resumed.model)))
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole_work")


def test_what_was_trained_is_saved_and_loaded(tiny_backbone, maker, tmp_path):
    encoder = train_value_encoder(tiny_backbone, maker, Config(num_steps=1, batch_size=1), tmp_path)
    save_value_encoder(encoder.model, tmp_path / "value_encoder", half=True)
    loaded = load_value_encoder(tmp_path / "value_encoder", tiny_backbone)
    ours, theirs = (e.encode("gender equality", "a photo of a boxer") for e in (encoder, loaded))
    assert torch.allclose(ours, theirs, atol=2e-2)


def test_the_paper_sets_the_loss():
    config = Config()
    assert (config.beta, config.alpha, config.gamma_1, config.gamma_2) == (1000.0, 500.0, 1.0, 0.5)
