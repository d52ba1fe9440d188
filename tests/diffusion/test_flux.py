"""Flux at tiny random size: "dev", which guides itself, and "schnell"; packed latents, rotary positions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import joint
import laws
import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from plans import PROMPT

from baselines import available, load_methods
from livo.diffusion.backbones import Defaults, load_backbone
from livo.diffusion.engine import Engine
from livo.methods.livo import LiVO
from livo.methods.value_encoder import TextValueEncoder, value_text
from livo.types import SamplingOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Like "dev". Read-only by agreement."""
    return joint.build_flux(tmp_path_factory.mktemp("dev"))


@pytest.fixture(scope="module")
def schnell_folder(tmp_path_factory) -> Path:
    return joint.build_flux(tmp_path_factory.mktemp("schnell"), guidance_embeds=False)


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(str(folder), "cpu")


@pytest.fixture
def engine(backbone):
    return Engine(backbone)


@pytest.fixture
def pipe(folder):
    return FluxPipeline.from_pretrained(folder)


def sampled(pipe, ask: SamplingOptions, **arguments) -> torch.Tensor:
    """As `laws.sampled`, its latents unpacked."""
    packed = laws.sampled(pipe, ask, **arguments)
    return pipe._unpack_latents(packed, ask.height, ask.width, pipe.vae_scale_factor)


def test_it_is_recognised_by_its_index(backbone, schnell_folder):
    schnell = load_backbone(str(schnell_folder), "cpu")
    assert backbone.defaults == Defaults(28, 3.5, 256, 256) and schnell.defaults == Defaults(4, 0.0, 256, 256)
    assert (backbone.kind, backbone.max_length, schnell.max_length) == ("Flux", 512, 256)
    engine = Engine(backbone)
    assert (engine.denoiser.in_channels, engine.denoiser.text_width, engine.denoiser.pooled_width) == (16, 96, 32)


def test_texts_are_encoded_in_one_batch(backbone):
    laws.texts_are_encoded_in_one_batch(backbone)


def test_dev_is_its_pipeline(engine, pipe, options, count_rows):
    rows = count_rows(engine.backbone.unet)
    ask = options(seeds=(3, 1), num_inference_steps=5, width=24, guidance_scale=3.5)
    plan = laws.plain(engine, ask)
    assert set(plan.branches) == {"cond"}
    assert laws.apart(engine.sample({"sd": plan})["sd"], sampled(pipe, ask, prompt=PROMPT)) < 1e-4
    assert rows == [2] * 5, "one row an image: the guidance is in the network"
    images = engine.generate({"sd": plan})["sd"].int()
    assert (images - laws.sampled(pipe, ask, images=True, prompt=PROMPT).int()).abs().max() <= 1


def test_guidance_scales_travel_with_their_rows(engine, pipe, options):
    asks = {scale: options(guidance_scale=scale) for scale in (1.0, 3.5, 7.0)}
    latents = engine.sample({str(scale): laws.plain(engine, ask) for scale, ask in asks.items()})
    for scale, ask in asks.items():
        assert laws.apart(latents[str(scale)], sampled(pipe, ask, prompt=PROMPT)) < 1e-4
    assert laws.apart(latents["1.0"], latents["7.0"]) > 1e-3


def test_schnell_is_its_pipeline_with_and_without_guidance(schnell_folder, options):
    engine, pipe = Engine(load_backbone(str(schnell_folder), "cpu")), FluxPipeline.from_pretrained(schnell_folder)
    ask = options(guidance_scale=0.0)
    short = {"prompt": PROMPT, "max_sequence_length": 256}
    assert laws.apart(engine.sample({"sd": laws.plain(engine, ask)})["sd"], sampled(pipe, ask, **short)) < 1e-4
    guided = options(guidance_scale=3.0)
    expected = sampled(pipe, guided, **short, negative_prompt="", true_cfg_scale=3.0)
    latents = engine.sample(laws.methods(engine, guided))
    assert "fair_diffusion" in latents and laws.apart(latents["stable_diffusion"], expected) < 1e-4


def test_one_batch_equals_method_by_method(engine, options, count_rows):
    """In latents: one token of 513 moves the pictures of so small a network by two grey levels."""
    rows, ask = count_rows(engine.backbone.unet), options(seeds=(0, 1), num_inference_steps=2)
    plans = laws.methods(engine, ask)
    together = engine.sample(plans)
    assert plans.keys() == {"stable_diffusion", "livo"} and rows == [2, 1] * 2, "a call a length, and equal rows once"
    for name, plan in plans.items():
        assert laws.apart(engine.sample({name: plan})[name], together[name]) < 1e-4
    assert laws.apart(together["livo"], together["stable_diffusion"]) > 1e-2


def test_no_principle_is_the_original_model(engine, options):
    laws.no_principle_is_the_original_model(engine, options(seeds=(0, 1), num_inference_steps=2))


def test_a_value_token_reaches_the_pipeline_alike(backbone, engine, pipe, options):
    """It is T5's state at the end token, at the position of all text tokens, so its place in the row is free."""
    encoder = TextValueEncoder.untrained(backbone)
    ids = backbone.tokenizer_2(value_text(laws.BIAS.text, PROMPT), return_tensors="pt").input_ids
    expected = backbone.text_encoder_2(ids).last_hidden_state[0, -1]
    assert torch.allclose(encoder.encode(laws.BIAS.text, PROMPT), expected, atol=1e-6)
    assert set(encoder.text.copied) == {"text_encoder_2"}
    plan = LiVO(engine, encoder, mixing_rate=1.0).plan(PROMPT, laws.BIAS, options())
    text = plan.branches["cond"][0]
    last = dataclasses.replace(text, prompt_embeds=text.prompt_embeds.roll(-1, 0))
    latents = engine.sample(
        {
            "livo": plan,
            "last": dataclasses.replace(plan, branches={"cond": [last]}),
            "sd": laws.plain(engine, options()),
        }
    )
    wanted = sampled(pipe, options(), prompt_embeds=text.prompt_embeds[None], pooled_prompt_embeds=text.pooled[None])
    assert len(text.prompt_embeds) == 513 and laws.apart(latents["livo"], wanted) < 1e-4
    assert laws.apart(latents["last"], wanted) < 1e-4 and torch.equal(text.pooled, engine.condition(PROMPT).pooled)
    assert laws.apart(latents["sd"], sampled(pipe, options(), prompt=PROMPT)) < 1e-4


def test_methods_that_do_not_apply_say_so(engine, schnell_folder):
    entries = load_methods(available(), engine)
    assert "does not apply to Flux with guidance distilled into it" in entries["fair_diffusion"].problem
    assert "does not apply to Flux: it edits" in entries["uce"].problem
    schnell = load_methods(["fair_diffusion"], Engine(load_backbone(str(schnell_folder), "cpu")))
    assert not schnell["fair_diffusion"].problem


def test_what_is_fetched_from_the_hub_is_enough(folder, tmp_path, options):
    laws.what_is_fetched_from_the_hub_is_enough(folder, tmp_path, options(num_inference_steps=1))


def test_bfloat16_samples(folder, options):
    laws.bfloat16_samples(folder, options(num_inference_steps=2))


def test_operations_are_counted(engine, options):
    assert engine.row_flop(options(height=64, width=64)) > 1.2 * engine.row_flop(options()) > 0


def test_the_full_size_architecture_takes_the_same_calls():
    denoiser = laws.laid_out(FluxTransformer2DModel, guidance_embeds=True)
    assert sum(p.numel() for p in denoiser.net.parameters()) == 11_901_408_320
    assert (denoiser.text_width, denoiser.pooled_width, denoiser.patch, denoiser.in_channels) == (4096, 768, 2, 16)
    laws.a_call_of_tokens_fits(denoiser, 513)
