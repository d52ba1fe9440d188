"""Training on flow matching's loss: Eq. 6 by hand with the libraries' own networks, its gradients, a tiny overfit."""

from __future__ import annotations

import math

import joint
import pytest
import torch
from diffusers import FluxPipeline
from pairs import lopsided_shares

from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine
from livo.methods.livo import load
from livo.methods.value_encoder import save_encoder, value_text
from livo.miniature.world import load_world
from livo.principles import load_principles
from livo.types import InputError
from train.miniature.data import to_model_range
from train.preference.drawn_pairs import PairMaker
from train.preference.flow_step import share_of_noise, trained_shift
from train.preference.pairs import drawn_pairs
from train.preference.step import draw_for
from train.preference.trainer import RuntimeOptions, Training, TrainingConfig, train_value_encoder

FEW = TrainingConfig(num_steps=3, batch_size=2, learning_rate=1e-3, schedule="constant", num_draws=1, seed=4)


@pytest.fixture(scope="module")
def data():
    world = load_world()
    return drawn_pairs(PairMaker(world, load_principles(), lopsided_shares(world)), 8, (16, 16))


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    """In float64; T5's tokens are zeros, which no gradient needs."""
    return load_backbone(str(joint.build_sd3(tmp_path_factory.mktemp("sd3"), t5=False)), "cpu", torch.float64)


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return load_backbone(str(joint.build_flux(tmp_path_factory.mktemp("flux"))), "cpu", torch.float64)


def velocity_sd3(backbone, x, s, tokens, pooled):
    timestep = torch.tensor([1000 * s], dtype=x.dtype)
    return backbone.unet(x, tokens[None], pooled[None], timestep).sample


def velocity_flux(backbone, x, s, tokens, pooled):
    _, channels, height, width = x.shape
    ids = FluxPipeline._prepare_latent_image_ids(1, height // 2, width // 2, "cpu", x.dtype)
    out = backbone.unet(
        FluxPipeline._pack_latents(x, 1, channels, height, width), tokens[None], pooled[None],
        torch.tensor([s], dtype=x.dtype), ids, torch.zeros(len(tokens), 3, dtype=x.dtype), torch.ones(1),
    ).sample  # fmt: skip
    return FluxPipeline._unpack_latents(out, 2 * height, 2 * width, 2)


def value_sd3(encoder, backbone, text):
    states = []
    for name, tokenizer in (("text_encoder", backbone.tokenizer), ("text_encoder_2", backbone.tokenizer_2)):
        ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
        states.append(encoder.model[name].text_model(ids).last_hidden_state[0, ids[0].argmax()])
    return torch.cat([*states, states[0].new_zeros(24)])


def value_flux(encoder, backbone, text):
    ids = backbone.tokenizer_2(text, return_tensors="pt").input_ids
    return encoder.model["text_encoder_2"](ids).last_hidden_state[0, -1]


def losses_by_hand(training, backbone, data, velocity, value) -> torch.Tensor:
    """(2,) Eq. 6 of rows 0 and 1, each at its draw 0, with gradients."""
    losses, vae = [], backbone.vae
    for i in (0, 1):
        row = data.rows[i]
        draw = draw_for(row, i, 0, FEW.seed, (16, 8, 8))
        s = share_of_noise(i, 0, FEW.seed, trained_shift(backbone, (8, 8)))
        (text,) = backbone.text.conditions([row.prompt])
        token = value(training.encoder, backbone, value_text(row.principle.text, row.prompt))
        steered = torch.cat([token[None], text.prompt_embeds])
        drift = []
        for picture, posterior in ((row.winner, draw.posterior[0]), (draw.loser, draw.posterior[1])):
            latents = vae.encode(to_model_range(data.pictures([picture])).double()).latent_dist
            latents = (latents.mean + latents.std * posterior.double() - 0.06) * 1.5
            noise = draw.noise.double()[None]
            x = (1 - s) * latents + s * noise
            own, reference = (
                (velocity(backbone, x, s, tokens, text.pooled) - (noise - latents)).square().mean()
                for tokens in (steered, text.prompt_embeds)
            )
            drift.append(own - reference)
        losses.append((1 + 1000 * drift[0]).clamp(min=0) + (0.5 - 500 * drift[1]).clamp(min=0))
    return torch.stack(losses)


@pytest.mark.parametrize(("kind", "velocity", "value"), [
    ("sd3", velocity_sd3, value_sd3), ("flux", velocity_flux, value_flux),
])  # fmt: skip
def test_loss_and_gradients_are_equation_6_by_hand(request, kind, velocity, value, data, tmp_path):
    backbone = request.getfixturevalue(kind)
    training = Training(backbone, data, FEW, tmp_path)
    training._prepare(0)
    found = training._forward_backward([0, 1], [0, 0])
    named = dict(training.encoder.model.named_parameters())
    gradients = {name: p.grad.clone() for name, p in named.items() if p.grad is not None}
    training.optimizer.zero_grad(set_to_none=True)
    wanted = losses_by_hand(training, backbone, data, velocity, value)
    wanted.mean().backward()
    assert torch.allclose(found.losses, wanted.detach(), rtol=1e-6) and (found.losses > 0).any()
    assert gradients.keys() == {name for name, p in named.items() if p.grad is not None}
    scale = max(p.grad.abs().max() for p in named.values() if p.grad is not None)
    assert scale > 1e-6
    for name, gradient in gradients.items():
        assert (gradient - named[name].grad).abs().max() < 1e-6 * scale, name
    assert all("text_projection" in name for name in named.keys() - gradients.keys() if "text_encoder" in name)
    assert all(p.grad is None for p in backbone.unet.parameters())

    # The slope along a random direction, by differences; some of T5 computes in float32 at any precision.
    name = next(key for key in gradients if key.endswith("final_layer_norm.weight"))
    step = torch.randn(named[name].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            named[name].add_(sign * 1e-4 * step)
            ends.append(losses_by_hand(training, backbone, data, velocity, value).mean())
            named[name].sub_(sign * 1e-4 * step)
    slope = ((ends[0] - ends[1]) / 2e-4).item()
    assert math.isclose(slope, (gradients[name] * step).sum().item(), rel_tol=1e-3, abs_tol=1e-6 * scale)


def test_small_batches_and_looking_first_change_nothing(sd3, data, tmp_path):
    def gradient(micro_batch: int, share: float, draws: int) -> torch.Tensor:
        config = TrainingConfig(3, 2, 1e-3, "constant", draws, seed=4)
        training = Training(sd3, data, config, tmp_path / str(draws), runtime=RuntimeOptions(micro_batch=micro_batch))
        training._prepare(0)
        training.activity.share = share
        training._forward_backward([0, 1], [0, 0])
        return torch.cat([p.grad.flatten() for p in training.encoder.model.parameters() if p.grad is not None])

    whole = gradient(0, 1.0, 1)
    for micro_batch, share, draws in ((1, 1.0, 1), (0, 0.0, 1), (0, 0.0, 0)):
        other = gradient(micro_batch, share, draws)
        assert (other - whole).abs().max() < 1e-9 * whole.abs().max()


def test_shares_of_noise_are_logit_normal_and_shifted():
    plain = torch.tensor([share_of_noise(i, 0, 0, 1.0) for i in range(4000)], dtype=torch.float64)
    logits = plain.logit()
    assert abs(logits.mean()) < 0.06 and abs(logits.std() - 1) < 0.05
    shifted = [share_of_noise(i, 0, 0, 3.0) for i in range(4)]
    assert shifted == pytest.approx([3 * u / (1 + 2 * u) for u in plain[:4].tolist()])
    assert share_of_noise(1, 0, 0, 1.0) != share_of_noise(0, 1, 0, 1.0)


def test_the_shift_is_the_sampler_s(sd3, flux):
    assert trained_shift(sd3, (8, 8)) == 3.0
    assert trained_shift(flux, (128, 128)) == pytest.approx(math.exp(1.15))


def test_a_tiny_overfit_and_the_encoder_it_leaves(tmp_path, data):
    """Two pairs, float32: the value token learns to be better on y_w and worse on y_l, past both margins."""
    backbone = load_backbone(str(joint.build_sd3(tmp_path / "model", t5=False)), "cpu")
    few = data.only(None, 2 / len(data.rows))
    config = TrainingConfig(num_steps=60, batch_size=2, learning_rate=3e-3, schedule="constant", num_draws=1)
    encoder, log = train_value_encoder(backbone, few, config, tmp_path / "work")
    assert log[-1]["loss"] < 0.1, "of 1.5 at the start"
    assert log[-1]["chosen better"] == log[-1]["rejected worse"] == 1.0
    save_encoder(encoder, tmp_path / "model" / "value_encoder", training={"seconds": 1.0})
    livo = load(Engine(backbone))
    assert torch.allclose(livo.value_encoder.encode("a", "b"), encoder.encode("a", "b"), atol=1e-6)
    assert livo.value_encoder.artefact.training == {"seconds": 1.0}


def test_the_official_way_is_refused(sd3, data, tmp_path):
    with pytest.raises(InputError, match="no Stable Diffusion 3: leave --official out"):
        Training(sd3, data, TrainingConfig(3, 2, 1e-3, "constant", 1, official=True), tmp_path)
