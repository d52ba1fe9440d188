"""The trainer: equal to the equations, to the official way, to itself after a kill and on several processes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math

import pytest
import torch
from diffusers import DDPMScheduler
from pairs import lopsided_shares

import train.preference.trainer as trainer
from livo.methods.value_encoder import ValueEncoder, load_value_encoder, save_value_encoder
from livo.miniature.world import load_world
from livo.principles import load_principles
from livo.types import InputError
from train.loop import train
from train.preference.activity import Activity
from train.preference.drawn_pairs import PairMaker
from train.preference.losses import dpo_d_loss, dpo_loss, livo_loss, livo_loss_without_margin, neutral_loss
from train.preference.pairs import NEUTRAL, drawn_pairs, with_neutral
from train.preference.step import draw_for
from train.preference.trainer import RuntimeOptions, Training, TrainingConfig, deal, train_value_encoder

WORLD = load_world()
FEW = TrainingConfig(num_steps=3, batch_size=3, learning_rate=1e-3, schedule="constant", num_draws=2, seed=4)


@pytest.fixture(scope="module")
def data():
    return drawn_pairs(PairMaker(WORLD, load_principles(), lopsided_shares(WORLD)), 8, (16, 16))


def weights(module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(a: dict, b: dict) -> list[bool]:
    assert a.keys() == b.keys()
    return [torch.equal(a[key], b[key]) for key in a]


def furthest(a, b) -> float:
    one, other = a.state_dict(), b.state_dict()
    return max((one[key] - other[key]).abs().max().item() for key in one)


def equation_6(drift_w: float, drift_l: float) -> float:
    """The paper's constants."""
    return max(0.0, 1 + 1000 * drift_w) + max(0.0, 0.5 - 500 * drift_l)


BY_HAND = {
    livo_loss: equation_6,
    livo_loss_without_margin: lambda drift_w, drift_l: 1000 * drift_w - 500 * drift_l,
    dpo_loss: lambda drift_w, drift_l: math.log1p(math.exp(1000 * (drift_w - drift_l))),
    dpo_d_loss: lambda drift_w, drift_l: math.log1p(math.exp(1000 * drift_w - 500 * drift_l)),
}


def loss_by_hand(
    backbone, model, data, config, step, of=equation_6, *, same_noise: bool = True, value_in_reference: bool = False
):
    """The mean loss of a step, one picture at a time, from the equations alone; differentiable by E^v's weights."""
    ddpm = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    value_encoder = ValueEncoder(model, backbone.tokenizer)
    indices, numbers = deal(step, config, len(data.rows))
    total = 0.0
    for index, number in zip(indices, numbers, strict=True):
        row = data.rows[index]
        draw = draw_for(row, index, number, config.seed, (4, 8, 8))
        prompt = backbone.text_encoder(backbone.tokenize(row.prompt)).last_hidden_state
        token = value_encoder.pooled(value_encoder.tokenize(row.principle.text, row.prompt))
        steered = torch.cat([token[None], prompt], dim=1)
        assert prompt.shape[1] == 77 and steered.shape[1] == 78
        errors = {}
        for side, number_of in enumerate((row.winner, draw.loser)):
            picture = data.pictures([number_of])
            if config.official and draw.flips[side]:
                picture = picture.flip(3)
            posterior = backbone.vae.encode((picture.float() / 127.5 - 1).to(backbone.dtype)).latent_dist
            z0 = (posterior.mean + posterior.std * draw.posterior[side]) * backbone.vae.config.scaling_factor
            noise = (draw.noise if same_noise or side == 0 else draw.noise.roll(1, 2)).to(backbone.dtype)
            zt = ddpm.add_noise(z0, noise[None], torch.tensor([draw.t]))
            for name, context in (("theta", steered), ("ref", steered if value_in_reference else prompt)):
                predicted = backbone.unet(zt, draw.t, context).sample[0]
                errors[name, side] = (predicted - noise).square().mean()
        drifts = [errors["theta", side] - errors["ref", side].detach() for side in (0, 1)]
        total = total + of(*drifts)
    return total / len(indices)


@pytest.mark.parametrize("loss", BY_HAND)
@pytest.mark.parametrize("official", [True, False])
@torch.no_grad()
def test_the_first_loss_is_the_equation_by_hand(tiny_backbone, data, tmp_path, loss, official):
    config = dataclasses.replace(FEW, num_steps=1, official=official)
    with torch.enable_grad():
        (row,) = train_value_encoder(tiny_backbone, data, config, tmp_path, loss)[1]
    untrained = copy.deepcopy(tiny_backbone.text_encoder)

    def of(mse_w, mse_l):
        return BY_HAND[loss](mse_w.item(), mse_l.item())

    by_hand = functools.partial(loss_by_hand, tiny_backbone, untrained, data, config, 0, of)
    assert row["loss"] == pytest.approx(by_hand(), abs=2e-3)
    # The comparison can fail: it sees the value token's absence from the reference, and the shared noise.
    assert abs(row["loss"] - by_hand(value_in_reference=True)) > 0.01
    assert abs(row["loss"] - by_hand(same_noise=False)) > 0.01


def hinges(drift_w, drift_l):
    return torch.relu(1 + 1000 * drift_w) + torch.relu(0.5 - 500 * drift_l)


@pytest.mark.parametrize("official", [True, False])
def test_five_steps_are_the_equation_descended_by_hand(tiny_backbone64, data, tmp_path, official):
    """Losses and every updated tensor, against autograd over Eq. 6 written out, AdamW and clipping by torch."""
    backbone = tiny_backbone64
    config = dataclasses.replace(FEW, num_steps=5, official=official, num_draws=0 if official else 2)
    training = Training(backbone, data, config, tmp_path)
    ours = [training.step(i)["loss"] for i in range(5)]
    model = copy.deepcopy(backbone.text_encoder).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    for i, loss in enumerate(ours):
        total = loss_by_hand(backbone, model, data, config, i, hinges)
        assert loss == pytest.approx(total.item(), abs=1e-6)  # reported in float32
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert furthest(model, training.encoder.model) < 1e-8
    assert furthest(backbone.text_encoder, training.encoder.model) > 1e-3, "and it moved"


def test_every_saving_leaves_the_gradient_as_it_is(tiny_backbone64, data, tmp_path):
    """Looking first, micro-batches, checkpointed activations, kept references: the official gradient without flips."""
    backbone = tiny_backbone64
    config = dataclasses.replace(FEW, batch_size=6, num_draws=0)

    def gradients(runtime=None, look_first=False, **changes):
        training = Training(backbone, data, dataclasses.replace(config, **changes), tmp_path, runtime=runtime)
        training.activity.share = 0.0 if look_first else 1.0
        indices, draws = deal(0, training.config, len(data.rows))
        training._prepare(0)
        errors = training._forward_backward(indices, draws)
        backbone.unet.disable_gradient_checkpointing()
        return errors, torch.cat([p.grad.flatten() for p in training.encoder.model.parameters()])

    plain, wanted = gradients()
    assert wanted.abs().max() > 1
    for name, (errors, found) in {
        "references kept": gradients(num_draws=2),
        "looked first": gradients(look_first=True),
        "looked first, references kept": gradients(look_first=True, num_draws=2),
        "micro-batches": gradients(RuntimeOptions(micro_batch=4)),
        "micro-batches of active rows": gradients(RuntimeOptions(micro_batch=4), look_first=True),
        "checkpointed": gradients(RuntimeOptions(gradient_checkpointing=True)),
    }.items():
        assert torch.allclose(found, wanted, rtol=0, atol=1e-9 * wanted.abs().max()), name
        for key in ("mse_w", "ref_mse_w", "mse_l", "ref_mse_l", "losses"):
            assert torch.allclose(getattr(errors, key), getattr(plain, key), atol=1e-9), (name, key)


def test_the_official_step_without_flips_is_the_fast_one(tiny_backbone64, data, tmp_path, monkeypatch):
    import train.preference.step as steps

    config = dataclasses.replace(FEW, num_draws=0)
    monkeypatch.setattr(steps, "draw_for", lambda *args: dataclasses.replace(draw_for(*args), flips=(False, False)))
    found = []
    for official in (True, False):
        training = Training(tiny_backbone64, data, dataclasses.replace(config, official=official), tmp_path)
        found.append([training.step(i) for i in range(2)] + [training.encoder.model])
    for a, b in zip(found[0][:2], found[1][:2], strict=True):
        assert a == pytest.approx(b, abs=1e-6)
    assert furthest(found[0][2], found[1][2]) < 1e-9


def test_looking_first_pays_below_half_and_is_measured():
    activity = Activity()
    assert not activity.look_first
    for _ in range(20):
        activity.update(0.1)
    assert activity.look_first
    other = Activity()
    other.load_state_dict(activity.state_dict())
    assert other.look_first and other.share == activity.share


def test_only_the_value_encoder_moves(tiny_backbone, data, tmp_path):
    frozen = {name: getattr(tiny_backbone, name) for name in ("text_encoder", "unet", "vae")}
    before = {name: weights(part) for name, part in frozen.items()}
    encoder, _ = train_value_encoder(tiny_backbone, data, FEW, tmp_path)
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


def test_the_log_says_what_was_run_and_how_it_went(tiny_backbone, data, tmp_path):
    _, log = train_value_encoder(tiny_backbone, data, FEW, tmp_path, functools.partial(livo_loss, gamma_1=0.25))
    (path,) = tmp_path.glob("livo_loss-*/log.json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["loss"] == "livo_loss" and stored["config"] == dataclasses.asdict(FEW)
    assert stored["constants"] == {"beta": 1000.0, "alpha": 500.0, "gamma_1": 0.25, "gamma_2": 0.5}
    assert stored["log"] == log
    assert set(log[0]) == {
        "step", "loss", "chosen past", "rejected past", "chosen better", "rejected worse", "chosen drift",
        "rejected drift", "seconds",
    }  # fmt: skip


def test_it_learns_one_pair(tiny_backbone, data, tmp_path):
    """One pair, again and again with its one draw: both margins of Eq. 6 come closer."""
    one = dataclasses.replace(data, rows=data.rows[:1])
    config = TrainingConfig(num_steps=100, batch_size=1, learning_rate=1e-3, schedule="constant", num_draws=4)
    first, last = train_value_encoder(tiny_backbone, one, config, tmp_path)[1]
    assert last["loss"] < first["loss"] and last["chosen past"] >= first["chosen past"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("num_draws", [0, 2])
def test_a_killed_run_ends_as_an_uninterrupted_one(tiny_backbone, data, tmp_path, monkeypatch, num_draws):
    monkeypatch.setattr(trainer, "train", functools.partial(train, save_every_seconds=-1))
    config = dataclasses.replace(FEW, num_steps=53, batch_size=1, num_draws=num_draws)
    whole, log = train_value_encoder(tiny_backbone, data, config, tmp_path / "whole")
    training = Training(tiny_backbone, data, config, tmp_path / "killed")
    forward_backward, left = training._forward_backward, iter(range(51))

    def dies(*args):
        if next(left, None) is None:
            raise Killed
        return forward_backward(*args)

    training._forward_backward = dies
    dies.prepare = forward_backward.prepare
    with pytest.raises(Killed):
        training.run()
    (state,) = (tmp_path / "killed").glob("*/state.pt")
    before = torch.load(state, weights_only=True)["seconds"]
    torch.manual_seed(99)
    resumed, resumed_log = train_value_encoder(tiny_backbone, data, config, tmp_path / "killed")
    assert all(same(weights(whole.model), weights(resumed.model)))
    timeless = lambda log: [{k: v for k, v in row.items() if k != "seconds"} for row in log]  # noqa: E731
    assert timeless(resumed_log) == timeless(log)
    assert resumed_log[-1]["seconds"] > before > 0, "time is summed over resumptions"


def test_a_state_is_resumed_by_the_very_same_run_alone(tiny_backbone, data, tmp_path, monkeypatch):
    """Another loss, constant, setting, backbone or other pairs begin anew, beside what lies there."""
    config = dataclasses.replace(FEW, num_steps=1, batch_size=1)

    def trains(backbone=tiny_backbone, data=data, config=config, loss=livo_loss) -> bool:
        taken: list[int] = []
        training = Training(backbone, data, config, tmp_path, loss)
        step = training.step
        training.step = lambda i: taken.append(i) or step(i)
        training.run()
        return bool(taken)

    assert trains() and not trains()
    other = dataclasses.replace(tiny_backbone, unet=copy.deepcopy(tiny_backbone.unet))
    assert not trains(backbone=other), "equal weights are the same backbone"
    with torch.no_grad():
        other.unet.conv_out.bias[0] += 0.1
    assert trains(backbone=other)
    assert trains(config=dataclasses.replace(config, seed=1))
    assert trains(loss=functools.partial(livo_loss, beta=7.0)) and trains(loss=dpo_loss)
    assert trains(data=data.only(fraction=0.5))
    assert not trains(), "none of them replaced the first"
    assert len(list(tmp_path.glob("livo_loss-*/state.pt"))) == 5 and len(list(tmp_path.glob("dpo_loss-*"))) == 1


def test_rows_come_round_once_an_epoch_and_processes_share_a_step():
    config = TrainingConfig(num_steps=9, batch_size=4, learning_rate=1.0, schedule="constant", num_draws=3)
    seen = [pair for step in range(10) for pair in zip(*deal(step, config, 10), strict=True)]
    for epoch in range(4):
        indices, draws = zip(*seen[10 * epoch : 10 * epoch + 10], strict=True)
        assert sorted(indices) == list(range(10)) and set(draws) == {epoch % 3}
    for step in range(10):
        halves = [deal(step, config, 10, process, 2) for process in (0, 1)]
        assert [halves[0][k] + halves[1][k] for k in (0, 1)] == list(deal(step, config, 10))


def test_checkpoints_are_kept_by_count_and_pictures_drawn(tiny_backbone, data, tmp_path):
    prompts = (("a photo of a boxer", "gender_equality"), ("a zombie boxer", "zombie"))
    runtime = RuntimeOptions(checkpoint_every=2, keep=2, validate_every=5, validation=prompts)
    config = dataclasses.replace(FEW, num_steps=9, batch_size=1)
    backbone = dataclasses.replace(
        tiny_backbone, defaults=dataclasses.replace(tiny_backbone.defaults, num_inference_steps=1)
    )
    whole, _ = train_value_encoder(backbone, data, config, tmp_path, runtime=runtime)
    (folder,) = tmp_path.glob("livo_loss-*")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["000006", "000008"]
    load_value_encoder(folder / "checkpoints" / "000008", backbone)
    assert [path.name for path in (folder / "validation").iterdir()] == ["000005.png"]
    plain, _ = train_value_encoder(backbone, data, config, tmp_path / "plain")
    assert all(same(weights(whole.model), weights(plain.model))), "looking on changes nothing"


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(tiny_backbone, data, tmp_path):
    broken = functools.partial(livo_loss, beta=float("nan"))
    with pytest.raises(FloatingPointError, match="loss became nan at step 0"):
        train_value_encoder(tiny_backbone, data, FEW, tmp_path, broken)


@pytest.mark.parametrize(("setting", "message"), [
    ({"num_steps": 0}, "give 1 or more"),
    ({"batch_size": 0}, "give 1 or more"),
    ({"schedule": "cosine"}, "there are: constant, decay"),
    ({"num_draws": -1}, "give 0 for new ones"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(FEW, **setting)


def test_a_backbone_that_predicts_something_else_is_refused(tiny_backbone, data, tmp_path):
    config = {**tiny_backbone.scheduler_config, "prediction_type": "v_prediction"}
    with pytest.raises(InputError, match="predicts 'v_prediction'"):
        Training(dataclasses.replace(tiny_backbone, scheduler_config=config), data, FEW, tmp_path)


def test_what_was_trained_is_saved_and_loaded(tiny_backbone, data, tmp_path):
    encoder, _ = train_value_encoder(tiny_backbone, data, FEW, tmp_path)
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
    config = trainer.PAPER
    assert (config.num_steps, config.batch_size, config.learning_rate) == (
        15_000,
        8,
        1e-6,
    ) and config.schedule == "constant"


# --- a neutral principle ---


def test_a_share_of_the_pairs_is_read_under_what_they_are_not_about(data):
    half = with_neutral(data, 0.5)
    turned = [(a, b) for a, b in zip(data.rows, half.rows, strict=True) if b.neutral]
    assert 0 < len(turned) < len(data.rows) and with_neutral(data, 0.0) is data
    texts = {p.text: p.risk for p in load_principles()}
    for before, after in turned:
        assert (before.prompt, before.winner, before.losers) == (after.prompt, after.winner, after.losers)
        other = texts.get(after.principle.text)
        assert after.principle.text in NEUTRAL or (other and other != before.principle.risk)
    assert all(a == b for a, b in zip(data.rows, half.rows, strict=True) if not b.neutral)
    with pytest.raises(InputError, match="less than 1"):
        with_neutral(data, 1.0)


@pytest.mark.parametrize("official", [False, True])
def test_neutral_pairs_have_the_neutral_loss_and_others_theirs(tiny_backbone, data, tmp_path, official):
    half = with_neutral(data, 0.5)
    training = Training(tiny_backbone, half, dataclasses.replace(FEW, official=official), tmp_path)
    rows = list(range(len(half.rows)))
    training._forward_backward.prepare({0})
    found = training._forward_backward(rows, [0] * len(rows))
    four = found.mse_w, found.ref_mse_w, found.mse_l, found.ref_mse_l
    neutral = torch.tensor([row.neutral for row in half.rows])
    assert torch.equal(found.neutral, neutral)
    assert torch.allclose(found.losses, torch.where(neutral, neutral_loss(*four), livo_loss(*four)))
    plain = Training(tiny_backbone, data, FEW, tmp_path)
    assert plain.folder != training.folder, "another training"
