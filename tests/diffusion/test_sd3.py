"""Stable Diffusion 3 and 3.5 at tiny random size: joint attention, three text encoders, flow matching."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import joint
import laws
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
)
from plans import PROMPT, state_hash
from transformers import T5EncoderModel

from baselines import available, load_methods
from baselines.fair_diffusion import Concept, FairDiffusion, SemanticGuidance
from livo.__main__ import main
from livo.diffusion.backbones import BackboneError, Defaults, load_backbone
from livo.diffusion.engine import Engine
from livo.methods.livo import LiVO
from livo.methods.value_encoder import TextValueEncoder, value_text
from livo.types import InputError, Start, Step
from livo.ui.compare_tab import Form, run_comparison
from livo.ui.workbench import load_workbench

LONG = "a very long prompt of many words " * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Like 3.0: static shift, no norm of queries. Read-only by agreement."""
    return joint.build_sd3(tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(str(folder), "cpu")


@pytest.fixture
def engine(backbone):
    return Engine(backbone)


@pytest.fixture
def pipe(folder):
    return StableDiffusion3Pipeline.from_pretrained(folder)


def test_texts_are_encoded_in_one_batch(backbone):
    laws.texts_are_encoded_in_one_batch(backbone)


def test_it_is_recognised_by_its_index(backbone, folder):
    assert backbone.defaults == Defaults(28, 7.0, 16, 16) and backbone.folder == folder
    assert (backbone.kind, backbone.max_length) == ("Stable Diffusion 3", 77 + 256)
    for part in (*backbone.text.encoders.values(), backbone.unet, backbone.vae):
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    assert len(backbone.text.encoders) == 3
    assert Engine(backbone).scheduler_class is FlowMatchEulerDiscreteScheduler


@pytest.mark.parametrize("prompt", [PROMPT, LONG])
def test_the_plain_plan_is_the_pipeline(engine, pipe, options, prompt):
    ask = options(seeds=(3, 1), num_inference_steps=5, width=24)
    expected = laws.sampled(pipe, ask, prompt=prompt)
    assert laws.apart(engine.sample({"sd": laws.plain(engine, ask, prompt)})["sd"], expected) < 1e-4
    images = engine.generate({"sd": laws.plain(engine, ask, prompt)})["sd"].int()
    assert (images - laws.sampled(pipe, ask, images=True, prompt=prompt).int()).abs().max() <= 1


def test_a_start_is_image_to_image(engine, folder, options):
    pipe = StableDiffusion3Img2ImgPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    ask = options(seeds=(3, 1), num_inference_steps=5)
    picture = torch.randn(2, engine.backbone.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(5))
    theirs = pipe(
        [PROMPT] * 2, image=picture, strength=0.6, num_inference_steps=5, guidance_scale=ask.guidance_scale,
        height=ask.height, width=ask.width, output_type="latent",
        generator=[torch.Generator().manual_seed(seed) for seed in ask.seeds],
    ).images  # fmt: skip
    plan = dataclasses.replace(laws.plain(engine, ask), start=Start(picture, 0.6))
    assert laws.apart(engine.sample({"sd": plan})["sd"], theirs) < 1e-4
    other = dataclasses.replace(plan, start=Start(-picture, 0.6))
    assert laws.apart(engine.sample({"sd": other})["sd"], theirs) > 1e-2, "the picture must matter"


def test_35_without_t5_is_its_pipeline(tmp_path, options):
    """Normalised queries, dual attention as in medium, a shift by the picture's size, zeros in T5's place."""
    folder = joint.build_sd3(
        tmp_path, t5=False, scheduler={"use_dynamic_shifting": True}, qk_norm="rms_norm", dual_attention_layers=(0,)
    )
    backbone = load_backbone(str(folder), "cpu")
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    assert backbone.text_encoder_3 is None and backbone.defaults.guidance_scale == 4.5
    engine, ask = Engine(backbone), options(height=24)
    tokens = engine.encode_prompt(PROMPT)
    assert tokens.shape == (333, 96) and not tokens[77:].any() and tokens[:77, :72].any()
    assert (
        laws.apart(engine.sample({"sd": laws.plain(engine, ask)})["sd"], laws.sampled(pipe, ask, prompt=PROMPT)) < 1e-4
    )


def test_the_comparison_sees_every_part(engine, pipe, options, monkeypatch):
    expected = laws.sampled(pipe, options(), prompt=PROMPT)
    right = laws.plain(engine, options())
    text = right.branches["cond"][0]

    def off(**changes) -> float:
        cond = dataclasses.replace(text, **changes)
        plan = dataclasses.replace(right, branches={**right.branches, "cond": [cond]})
        return laws.apart(engine.sample({"sd": plan})["sd"], expected)

    assert off() < 1e-4
    assert off(pooled=torch.zeros(40)) > 1e-3, "the pooled embedding"
    for tokens, columns, part in ((slice(77), slice(32), "CLIP-L"), (slice(77), slice(32, 72), "CLIP-G"),
                                  (slice(77, 333), slice(96), "T5")):  # fmt: skip
        wrong = text.prompt_embeds.clone()
        wrong[tokens, columns] = 0
        assert off(prompt_embeds=wrong) > 1e-3, part
    monkeypatch.setattr(
        type(engine.denoiser), "_sigmas", lambda self, steps: {"sigmas": [1 - i / steps for i in range(steps)]}
    )
    assert off() > 1e-3, "the steps"


def test_one_batch_equals_method_by_method(engine, options, count_rows):
    laws.one_batch_equals_method_by_method(
        engine, options(seeds=(0, 1), num_inference_steps=3), count_rows(engine.backbone.unet)
    )


def test_every_method_in_one_batch_is_its_pipeline(engine, pipe, options):
    """Plain, LiVO and Fair Diffusion together; the pipeline pads an empty prompt by itself where LiVO's is longer."""
    ask = options(seeds=(3, 1))
    plans = laws.methods(engine, ask)
    latents = engine.sample(plans)
    assert latents.keys() == {"stable_diffusion", "livo", "fair_diffusion"}
    plain = laws.sampled(pipe, ask, prompt=PROMPT)
    assert laws.apart(latents["stable_diffusion"], plain) < 1e-4
    taken = [note == "value" for note in plans["livo"].notes]
    assert sorted(taken) == [False, True]
    for i, take in enumerate(taken):
        if not take:
            assert laws.apart(latents["livo"][i], plain[i]) < 1e-4
    unguided = dataclasses.replace(ask, guidance_scale=1.0)
    livo = LiVO(engine, TextValueEncoder.untrained(engine.backbone), mixing_rate=1.0).plan(PROMPT, laws.BIAS, unguided)
    text = livo.branches["cond"][0]
    expected = laws.sampled(
        pipe, unguided, prompt_embeds=text.prompt_embeds[None], pooled_prompt_embeds=text.pooled[None]
    )
    both = engine.sample({"livo": livo, "sd": laws.plain(engine, unguided)})
    assert len(text.prompt_embeds) == 334 and laws.apart(both["livo"], expected) < 1e-4
    fair = engine.sample({"fair": plans["fair_diffusion"]})["fair"]
    assert laws.apart(latents["fair_diffusion"], fair) < 1e-4


def test_equal_plans_cost_nothing(engine, options, count_rows):
    laws.equal_plans_cost_nothing(engine, options(), count_rows(engine.backbone.unet))


def test_no_principle_is_the_original_model(engine, options):
    laws.no_principle_is_the_original_model(engine, options(seeds=(0, 1)))


def test_the_value_token_is_both_clips_states_at_the_end_token(backbone, engine, options):
    encoder = TextValueEncoder.untrained(backbone)
    value = encoder.encode(laws.BIAS.text, PROMPT)
    states = []
    for tokenizer, network in (
        (backbone.tokenizer, backbone.text_encoder), (backbone.tokenizer_2, backbone.text_encoder_2),
    ):  # fmt: skip
        text = value_text(laws.BIAS.text, PROMPT)
        ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
        states.append(network.text_model(ids).last_hidden_state[0, ids[0].argmax()])
    assert torch.allclose(value, torch.cat([*states, torch.zeros(24)]), atol=1e-6)
    plan = LiVO(engine, encoder, mixing_rate=1.0).plan(PROMPT, laws.BIAS, options())
    assert torch.equal(plan.branches["cond"][0].pooled, engine.condition(PROMPT).pooled), "the prompt's own"
    assert encoder.text.encoders["text_encoder_3"] is backbone.text_encoder_3, "T5 is not copied"
    assert encoder.text.copied["text_encoder"] is not backbone.text_encoder


def test_where_the_value_token_stands_changes_nothing(engine, options):
    plan = LiVO(engine, TextValueEncoder.untrained(engine.backbone), mixing_rate=1.0).plan(PROMPT, laws.BIAS, options())
    text = plan.branches["cond"][0]
    last = dataclasses.replace(text, prompt_embeds=text.prompt_embeds.roll(-1, 0))
    latents = engine.sample(
        {"first": plan, "last": dataclasses.replace(plan, branches={**plan.branches, "cond": [last]})}
    )
    assert laws.apart(latents["last"], latents["first"]) < 1e-4


def test_semantic_guidance_of_velocities_is_that_of_noise():
    """eps = x + (1 - s) v of every branch, guided, gives the eps of the guided v."""
    generator = torch.Generator().manual_seed(0)
    v = {name: torch.randn(1, 16, 8, 8, generator=generator, dtype=torch.float64)
         for name in ("uncond", "cond", "suppress", "enhance")}  # fmt: skip
    x, share = torch.randn(1, 16, 8, 8, generator=generator, dtype=torch.float64), 0.6
    concepts = (Concept("suppress", 4.0, 0.9, 0, reverse=True), Concept("enhance", 4.0, 0.9, 0))
    guide = SemanticGuidance(5.0, concepts, 0.5, 0.6)
    of_noise = guide({name: x + (1 - share) * one for name, one in v.items()}, Step(0, 600, 3))
    assert torch.allclose(of_noise, x + (1 - share) * guide(v, Step(0, 600, 3)), atol=1e-12)


def test_fair_diffusion_pushes(engine, options):
    latents = engine.sample(
        {"sd": laws.plain(engine, options()), "fair": FairDiffusion(engine).plan(PROMPT, laws.BIAS, options())}
    )
    assert laws.apart(latents["fair"], latents["sd"]) > 1e-3


def test_methods_that_edit_cross_attention_say_that_they_do_not_apply(engine):
    entries = load_methods(available(), engine)
    refused = {id for id, entry in entries.items() if "does not apply to Stable Diffusion 3: it edits" in entry.problem}
    assert refused == {"uce", "uce_2025", "uce_sequential", "concept_ablation", "dapt"}
    assert all("arXiv:2412.20413" in entries[id].problem for id in refused)
    assert not entries["fair_diffusion"].problem and not entries["stable_diffusion"].problem
    assert "value encoder" in entries["livo"].problem
    with pytest.raises(ValueError, match="which is no to_k or to_v"):
        engine.add_projection("edit", {"transformer_blocks.0.attn.to_k.weight": torch.zeros(32, 32)})


def test_another_solver_is_refused(backbone):
    with pytest.raises(InputError, match="DPMSolverMultistepScheduler cannot sample Stable Diffusion 3.*leave"):
        Engine(backbone, scheduler_class=DPMSolverMultistepScheduler)


def test_a_transformer_of_its_own_runs_beside(backbone, engine, options):
    before = state_hash(backbone.unet)
    own = type(backbone.unet).from_config(backbone.unet.config)
    engine.add_unet("own", own)
    plan = laws.plain(engine, options())
    latents = engine.sample({"base": plan, "own": dataclasses.replace(plan, unet_override="own")})
    assert laws.apart(latents["own"], latents["base"]) > 1e-2 and state_hash(backbone.unet) == before


def test_what_is_fetched_from_the_hub_is_enough(folder, tmp_path, options):
    laws.what_is_fetched_from_the_hub_is_enough(folder, tmp_path, options(num_inference_steps=1))


def test_bfloat16_samples(folder, options):
    laws.bfloat16_samples(folder, options(num_inference_steps=2))


def test_operations_are_counted(engine, options):
    assert engine.row_flop(options(height=64, width=64)) > 1.5 * engine.row_flop(options()) > 0


def test_what_it_lacks_is_named(folder, tmp_path):
    broken = Path(shutil.copytree(folder, tmp_path / "model"))
    shutil.rmtree(broken / "text_encoder_3")
    with pytest.raises(BackboneError, match="text_encoder_3/config.json is missing: .*; or, to go without T5, write"):
        load_backbone(str(broken))
    scheduler = broken / "scheduler" / "scheduler_config.json"
    index = json.loads((broken / "model_index.json").read_text())
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (broken / "model_index.json").write_text(json.dumps(index))
    assert load_backbone(str(broken), "cpu").text_encoder_3 is None
    scheduler.write_text(json.dumps({"_class_name": "DDIMScheduler"}))
    with pytest.raises(BackboneError, match="its scheduler is DDIMScheduler.*FlowMatchEulerDiscreteScheduler: correct"):
        load_backbone(str(broken))


def test_a_quantised_t5_stays_where_its_quantiser_has_put_it(folder, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise ValueError("`.to` is not supported for quantised models")

    monkeypatch.setattr(T5EncoderModel, "is_quantized", True, raising=False)
    monkeypatch.setattr(T5EncoderModel, "to", refuse)
    assert load_backbone(str(folder), "cpu").text_encoder_3.is_quantized


def test_sizes_are_whole_patches(engine, options):
    with pytest.raises(InputError, match="height of 18 pixels.*multiple of 4"):
        engine.stream({"sd": laws.plain(engine, options(height=18))})


def test_shell_and_page_work_with_such_a_folder(folder, tmp_path, capsys):
    here = ["--backbone", str(folder), "--device", "cpu", "--seeds", "0", "--steps", "2", "--judge", "none"]
    methods = "stable_diffusion,fair_diffusion,uce,livo"
    assert main(["compare", PROMPT, *here, "--methods", methods, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "transformer rows, text in each, a step" in shown.out and "U-Net" not in shown.out
    assert "UCE: does not apply to Stable Diffusion 3: it edits" in shown.out
    assert "train.value_encoder --backbone" in shown.out, "LiVO's way out"
    assert {path.name for path in tmp_path.glob("*.png")} == {"stable_diffusion-seed0.png", "fair_diffusion-seed0.png"}

    bench = load_workbench(str(folder), "cpu", judge="none")
    *_, (_, _, grid) = run_comparison(bench, Form(PROMPT, "auto", "stable_diffusion,fair_diffusion,uce", 0, 1, 2, 7.0))
    assert "2 transformer rows a step, the text in each" in grid and "does not apply to Stable Diffusion 3" in grid
    assert grid.count("<img") == 2


LARGE = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192,
         "qk_norm": "rms_norm"}  # fmt: skip
MEDIUM = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384,
          "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))}  # fmt: skip
THREE = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 192}


@pytest.mark.parametrize(("config", "weights"), [
    pytest.param(LARGE, 8_056_627_520, id="3.5-large"), pytest.param(MEDIUM, 2_243_171_520, id="3.5-medium"),
    pytest.param(THREE, 2_028_328_000, id="3-medium"),
])  # fmt: skip
def test_the_full_size_architecture_takes_the_same_calls(config, weights):
    denoiser = laws.laid_out(SD3Transformer2DModel, **config)
    assert sum(p.numel() for p in denoiser.net.parameters()) == weights
    assert (denoiser.text_width, denoiser.pooled_width, denoiser.patch, denoiser.in_channels) == (4096, 2048, 2, 16)
    laws.a_call_of_tokens_fits(denoiser, 334)
