from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import random

import pytest
import torch
from pairs import lopsided_shares, small

import train.value_encoder as trainer
from livo.miniature.world import load_world
from livo.principles import load_principles
from livo.value_encoder import ValueEncoder, load_value_encoder, save_value_encoder
from livo.types import InputError
from train.loop import train
from train.losses import dpo_d_loss, dpo_loss, livo_loss
from train.preference import PairMaker
from train.value_encoder import Config, train_value_encoder

WORLD = load_world()


@pytest.fixture(scope="module")
def maker() -> PairMaker:
    return PairMaker(WORLD, load_principles(), lopsided_shares(WORLD))


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(trainer, "render_batch", small)


def weights(module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(a: dict, b: dict) -> list[bool]:
    assert a.keys() == b.keys()
    return [torch.equal(a[key], b[key]) for key in a]


def timeless(log: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in log]


def with_pair(maker: PairMaker, pair) -> PairMaker:
    """The same maker by its digest, with another `pair`."""
    changed = copy.copy(maker)
    changed.pair = pair
    return changed


def equation_6(drift_w: float, drift_l: float) -> float:
    """The paper's constants."""
    return max(0.0, 1 + 1000 * drift_w) + max(0.0, 0.5 - 500 * drift_l)


BY_HAND = {
    livo_loss: equation_6,
    dpo_loss: lambda drift_w, drift_l: math.log1p(math.exp(1000 * (drift_w - drift_l))),
    dpo_d_loss: lambda drift_w, drift_l: math.log1p(math.exp(1000 * drift_w - 500 * drift_l)),
}


@torch.no_grad()
def loss_by_hand(
    backbone, maker, config, of=equation_6, *, same_noise: bool = True, value_in_reference: bool = False
) -> float:
    """A loss at step 0 of a run, one picture at a time, from the equations alone."""
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
        total += of(*(errors["theta", side] - errors["ref", side] for side in "wl"))
    return total / len(pairs)


@pytest.mark.parametrize("loss", BY_HAND)
def test_the_first_loss_is_the_equation_by_hand(tiny_backbone, maker, tmp_path, loss):
    config = Config(num_steps=1, batch_size=3, seed=4)
    (row,) = train_value_encoder(tiny_backbone, maker, config, tmp_path, loss)[1]
    by_hand = functools.partial(loss_by_hand, tiny_backbone, maker, config, BY_HAND[loss])
    assert row["loss"] == pytest.approx(by_hand(), abs=2e-3)
    # The comparison can fail: it sees the value token's absence from the reference, and the shared noise.
    assert abs(row["loss"] - by_hand(value_in_reference=True)) > 0.01
    assert abs(row["loss"] - by_hand(same_noise=False)) > 0.01


def test_where_the_value_changes_nothing_the_loss_is_the_two_margins(tiny_backbone, maker):
    config = Config(batch_size=2)
    assert loss_by_hand(tiny_backbone, maker, config, value_in_reference=True) == 1.5


def test_only_the_value_encoder_moves(tiny_backbone, maker, tmp_path):
    frozen = {name: getattr(tiny_backbone, name) for name in ("text_encoder", "unet", "vae")}
    before = {name: weights(part) for name, part in frozen.items()}
    encoder, _ = train_value_encoder(tiny_backbone, maker, Config(num_steps=3, batch_size=2), tmp_path)
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
    config = Config(num_steps=2, batch_size=2)
    _, log = train_value_encoder(tiny_backbone, maker, config, tmp_path, functools.partial(livo_loss, gamma_1=0.25))
    (path,) = tmp_path.glob("*/log.json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["loss"] == "livo_loss" and stored["config"] == dataclasses.asdict(config)
    assert stored["constants"] == {"beta": 1000.0, "alpha": 500.0, "gamma_1": 0.25, "gamma_2": 0.5}
    assert stored["log"] == log
    assert set(log[0]) == {
        "step", "loss", "chosen better", "rejected worse", "chosen drift", "rejected drift", "seconds",
    }  # fmt: skip


def test_it_learns_one_pair(tiny_backbone, maker, tmp_path):
    """One scene, again and again: both margins of Eq. 6 come closer."""
    one = maker.pair(random.Random(3))
    config = Config(num_steps=100, batch_size=1, learning_rate=1e-3)
    first, last = train_value_encoder(tiny_backbone, with_pair(maker, lambda rng: one), config, tmp_path)[1]
    assert last["loss"] < first["loss"]


class Killed(BaseException):
    pass


def test_a_killed_run_ends_as_an_uninterrupted_one(tiny_backbone, maker, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "train", functools.partial(train, save_every_seconds=-1))
    config, loss = Config(num_steps=53, batch_size=1), dpo_loss
    whole, log = train_value_encoder(tiny_backbone, maker, config, tmp_path / "whole", loss)
    left = iter(range(51))

    def dies(rng):
        if next(left, None) is None:
            raise Killed
        return maker.pair(rng)

    with pytest.raises(Killed):
        train_value_encoder(tiny_backbone, with_pair(maker, dies), config, tmp_path / "killed", loss)
    (state,) = (tmp_path / "killed").glob("*/state.pt")
    before = torch.load(state, weights_only=True)["seconds"]
    torch.manual_seed(99)
    resumed, resumed_log = train_value_encoder(tiny_backbone, maker, config, tmp_path / "killed", loss)
    assert all(same(weights(whole.model), weights(resumed.model)))
    assert timeless(resumed_log) == timeless(log)
    assert resumed_log[-1]["seconds"] > before > 0, "time is summed over resumptions"


def test_a_state_is_resumed_by_the_very_same_run_alone(tiny_backbone, maker, tmp_path):
    """Another loss, constant, setting, backbone or other pairs begin anew, beside what lies there."""
    config = Config(num_steps=1, batch_size=1)
    drawn: list[object] = []

    def trains(backbone=tiny_backbone, maker=maker, config=config, loss=livo_loss) -> bool:
        drawn.clear()
        watched = with_pair(maker, lambda rng: drawn.append(rng) or maker.pair(rng))
        train_value_encoder(backbone, watched, config, tmp_path, loss)
        return bool(drawn)

    assert trains() and not trains()
    other = dataclasses.replace(tiny_backbone, unet=copy.deepcopy(tiny_backbone.unet))
    assert not trains(backbone=other), "equal weights are the same backbone"
    with torch.no_grad():
        other.unet.conv_out.bias[0] += 0.1
    assert trains(backbone=other)
    assert trains(config=dataclasses.replace(config, seed=1))
    assert trains(loss=functools.partial(livo_loss, beta=7.0)) and trains(loss=dpo_loss)
    assert trains(maker=PairMaker(WORLD, load_principles(), lopsided_shares(WORLD), {"toxicity": 1.0}))
    assert not trains(), "none of them replaced the first"
    assert len(list(tmp_path.glob("livo_loss-*/state.pt"))) == 5 and len(list(tmp_path.glob("dpo_loss-*"))) == 1


@pytest.mark.parametrize("setting", [{"num_steps": 0}, {"batch_size": 0}])
def test_a_run_of_nothing_is_refused(setting):
    with pytest.raises(InputError, match="give 1 or more"):
        Config(**setting)


def test_what_was_trained_is_saved_and_loaded(tiny_backbone, maker, tmp_path):
    encoder, _ = train_value_encoder(tiny_backbone, maker, Config(num_steps=1, batch_size=1), tmp_path)
    save_value_encoder(encoder.model, tmp_path / "value_encoder", half=True)
    loaded = load_value_encoder(tmp_path / "value_encoder", tiny_backbone)
    ours, theirs = (e.encode("gender equality", "a photo of a boxer") for e in (encoder, loaded))
    assert torch.allclose(ours, theirs, atol=2e-2)


def test_the_paper_sets_the_losses():
    paper = {"beta": 1000.0, "alpha": 500.0, "gamma_1": 1.0, "gamma_2": 0.5}
    assert trainer.constants(livo_loss) == paper
    assert trainer.constants(dpo_loss) == {"beta": 1000.0}
    assert trainer.constants(dpo_d_loss) == {"beta": 1000.0, "alpha": 500.0}
    assert trainer.constants(functools.partial(livo_loss, **paper | {"alpha": 2.0})) == paper | {"alpha": 2.0}


def test_a_backbone_of_the_hub_or_without_a_judge_is_refused(tiny_backbone, tmp_path, monkeypatch):
    of_the_hub = dataclasses.replace(tiny_backbone, folder=None)
    monkeypatch.setattr(trainer, "load_backbone", lambda *_: of_the_hub)
    with pytest.raises(InputError, match="owner/name comes from the hub: download it.*--backbone"):
        trainer.load_data("owner/name", tmp_path)
    with pytest.raises(SystemExit, match="python -m train.value_encoder: backbone miniature comes from the hub"):
        trainer.main(["--work", str(tmp_path), "--threads", "1"])
    monkeypatch.undo()
    with pytest.raises(InputError, match="evaluator is missing.*python -m train.miniature --stages evaluator"):
        trainer.load_data(str(tiny_backbone.folder), tmp_path)
    with pytest.raises(SystemExit, match="there is no backbone folder nowhere"):
        trainer.main(["--backbone", "nowhere", "--work", str(tmp_path), "--threads", "1"])
