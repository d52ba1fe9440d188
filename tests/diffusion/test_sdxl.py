"""SDXL at tiny random size: two text encoders and tokenizers, a pooled embedding and six time ids."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import laws
import pytest
import torch
from conftest import tiny_tokenizer
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from plans import PROMPT
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from livo.diffusion.backbones import BackboneError, Defaults, load_backbone, only_stable_diffusion
from livo.diffusion.engine import Engine
from livo.diffusion.latents import initial_noise
from livo.methods.livo import LiVO, load
from livo.methods.value_encoder import TextValueEncoder, ValueEncoderError, load_value_encoder, value_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Read-only by agreement. Widths differ throughout: 32 + 40 tokens, 24 pooled."""
    torch.manual_seed(0)
    clip = {"vocab_size": 514, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
            "bos_token_id": 512, "eos_token_id": 2, "pad_token_id": 513}  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=72, norm_num_groups=8,
        attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 24,
    )  # fmt: skip
    with torch.no_grad():  # fresh attention hardly listens to the text; here a changed text must show
        for name, parameter in unet.named_parameters():
            if ".attn2." in name or name.startswith("add_embedding"):
                parameter.mul_(3)
    vae = AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=4, norm_num_groups=8, scaling_factor=0.13025,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    second = tiny_tokenizer()
    second.pad_token = "!"  # as SDXL's is
    path = tmp_path_factory.mktemp("sdxl")
    StableDiffusionXLPipeline(
        vae=vae, unet=unet, tokenizer=tiny_tokenizer(), tokenizer_2=second,
        text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=32, hidden_act="quick_gelu", **clip)),
        text_encoder_2=CLIPTextModelWithProjection(
            CLIPTextConfig(hidden_size=40, projection_dim=24, hidden_act="gelu", **clip)
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading",
            steps_offset=1,
        ),
    ).save_pretrained(path)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(str(folder), "cpu")


@pytest.fixture
def engine(backbone):
    return Engine(backbone)


@pytest.fixture
def pipe(folder):
    return StableDiffusionXLPipeline.from_pretrained(folder)


@pytest.fixture
def broken(folder, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_it_is_recognised_by_its_index(backbone, folder):
    assert backbone.defaults == Defaults(25, 5.0, 16, 16) and backbone.folder == folder
    assert isinstance(backbone.text_encoder_2, CLIPTextModelWithProjection) and backbone.force_zeros_for_empty_prompt
    assert backbone.tokenizer_2.pad_token == "!" != backbone.tokenizer.pad_token
    for part in (*backbone.text.encoders.values(), backbone.unet, backbone.vae):
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    assert Engine(backbone).scheduler_class is EulerDiscreteScheduler


@pytest.mark.parametrize("solver", [None, DPMSolverMultistepScheduler])
@pytest.mark.parametrize("zeros", [True, False])
def test_the_plain_plan_is_the_pipeline(backbone, pipe, options, solver, zeros):
    engine = Engine(dataclasses.replace(backbone, force_zeros_for_empty_prompt=zeros), scheduler_class=solver)
    pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
    if solver:
        pipe.scheduler = solver.from_config(pipe.scheduler.config)
    ask = options(seeds=(3, 1), num_inference_steps=5, width=24)
    expected = laws.sampled(pipe, ask, prompt=PROMPT)
    assert laws.apart(engine.sample({"sd": laws.plain(engine, ask)})["sd"], expected) < 1e-4
    images = engine.generate({"sd": laws.plain(engine, ask)})["sd"].int()
    assert (images - laws.sampled(pipe, ask, images=True, prompt=PROMPT).int()).abs().max() <= 1


def test_the_comparison_sees_every_part(backbone, engine, pipe, options, monkeypatch):
    ask = options(width=24)
    expected = laws.sampled(pipe, ask, prompt=PROMPT)
    right = laws.plain(engine, ask)
    text = right.branches["cond"][0]

    def off(**changes) -> float:
        cond = dataclasses.replace(text, **changes)
        plan = dataclasses.replace(right, branches={**right.branches, "cond": [cond]})
        return laws.apart(engine.sample({"sd": plan})["sd"], expected)

    assert off() < 1e-4
    assert off(pooled=torch.zeros(24)) > 1e-3, "the pooled embedding"
    assert off(prompt_embeds=torch.cat([text.prompt_embeds[:, :32], torch.zeros(77, 40)], dim=1)) > 1e-3, (
        "the second encoder"
    )
    assert off(prompt_embeds=torch.cat([torch.zeros(77, 32), text.prompt_embeds[:, 32:]], dim=1)) > 1e-3, "the first"
    unturned = type(engine.denoiser).conditions
    monkeypatch.setattr(
        type(engine.denoiser), "conditions", lambda self, rows, pooled, *_: unturned(self, rows, pooled, (64, 64))
    )
    assert off() > 1e-3, "the six time ids"


def test_one_batch_equals_method_by_method(engine, options, count_rows):
    laws.one_batch_equals_method_by_method(
        engine, options(seeds=(0, 1), num_inference_steps=3), count_rows(engine.backbone.unet)
    )


def test_equal_plans_cost_nothing(engine, options, count_rows):
    laws.equal_plans_cost_nothing(engine, options(), count_rows(engine.backbone.unet))


def test_texts_are_encoded_in_one_batch(backbone):
    laws.texts_are_encoded_in_one_batch(backbone)


def test_texts_that_differ_in_the_pooled_embedding_alone_are_two(engine, options):
    plan = laws.plain(engine, options())
    text = plan.branches["cond"][0]
    turned = dataclasses.replace(
        plan, branches={**plan.branches, "cond": [dataclasses.replace(text, pooled=-text.pooled)]}
    )
    latents = engine.sample({"a": plan, "b": turned})
    assert laws.apart(latents["a"], latents["b"]) > 1e-3


def test_no_principle_is_the_original_model(engine, options):
    laws.no_principle_is_the_original_model(engine, options(seeds=(0, 1)))


def test_the_value_token_is_both_final_states_at_the_end_token(backbone, engine, options):
    encoder = TextValueEncoder.untrained(backbone)
    value = encoder.encode(laws.BIAS.text, PROMPT)
    states = []
    for tokenizer, network in (
        (backbone.tokenizer, backbone.text_encoder),
        (backbone.tokenizer_2, backbone.text_encoder_2),
    ):
        ids = tokenizer(
            value_text(laws.BIAS.text, PROMPT), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        states.append(network(ids).last_hidden_state[0, ids[0].argmax()])
    assert torch.allclose(value, torch.cat(states), atol=1e-6) and value.shape == (72,)
    plan = LiVO(engine, encoder, mixing_rate=1.0).plan(PROMPT, laws.BIAS, options())
    assert torch.equal(plan.branches["cond"][0].pooled, engine.condition(PROMPT).pooled), "the prompt's own"
    for own, copied in zip(backbone.text.encoders.values(), encoder.text.encoders.values(), strict=True):
        assert own is not copied and all(
            a.data_ptr() != b.data_ptr() for a, b in zip(own.parameters(), copied.parameters(), strict=True)
        )


def test_a_value_token_reaches_the_pipeline_alike(engine, pipe, options):
    ask = options(guidance_scale=1.0, width=24)
    plan = LiVO(engine, TextValueEncoder.untrained(engine.backbone), mixing_rate=1.0).plan(PROMPT, laws.BIAS, ask)
    text = plan.branches["cond"][0]
    expected = laws.sampled(pipe, ask, prompt_embeds=text.prompt_embeds[None], pooled_prompt_embeds=text.pooled[None])
    assert len(text.prompt_embeds) == 78 and laws.apart(engine.sample({"livo": plan})["livo"], expected) < 1e-4


def test_an_edit_is_the_pipeline_with_edited_weights(engine, pipe, options):
    laws.an_edit_is_the_pipeline_with_edited_weights(engine, options(), pipe)


def test_float16_keeps_the_decoder_in_float32(folder, options):
    engine = Engine(load_backbone(str(folder), "cpu", torch.float16))
    assert engine.backbone.unet.dtype == torch.float16 and engine.backbone.vae.dtype == torch.float32
    asked = options(num_inference_steps=2)
    images = engine.generate({"sd": laws.plain(engine, asked)})["sd"].int()
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float16)
    side = asked.height // engine.backbone.vae_scale
    noise = initial_noise(asked.seeds, (4, side, side), torch.float32)[0].half()  # on a CPU the same in every precision
    expected = laws.sampled(pipe, asked, images=True, prompt=PROMPT, latents=noise).int()
    assert (images - expected).float().abs().mean() < 1


def test_the_full_size_architecture_takes_the_same_calls():
    denoiser = laws.laid_out(
        UNet2DConditionModel, sample_size=128, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048, transformer_layers_per_block=(1, 2, 10), use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    assert sum(p.numel() for p in denoiser.net.parameters()) == 2_567_463_684
    assert (denoiser.text_width, denoiser.pooled_width) == (2048, 1280)
    keys = laws.a_call_of_two_lengths_fits(denoiser, (77, 78), 128)
    assert len(keys) == 70 and set(keys.values()) == {(1, 10, 78, 64), (1, 20, 78, 64)}
    assert 450e6 < denoiser.row_bytes(128, 128) < 600e6, "the tensors alive at once come to 331 MB, in float32"


def test_operations_are_counted(engine, options):
    assert engine.row_flop(options(height=32, width=32)) > 3.5 * engine.row_flop(options()) > 0


def test_what_is_fetched_from_the_hub_is_enough(folder, tmp_path, options):
    laws.what_is_fetched_from_the_hub_is_enough(folder, tmp_path, options(num_inference_steps=1))


def test_bfloat16_samples(folder, options):
    laws.bfloat16_samples(folder, options(num_inference_steps=2))


def test_what_it_lacks_is_named(broken):
    shutil.rmtree(broken / "text_encoder_2")
    with pytest.raises(BackboneError, match="text_encoder_2/config.json is missing: copy .* again"):
        load_backbone(str(broken))


def test_a_second_vocabulary_that_is_missing_is_named(broken):
    (broken / "tokenizer_2" / "tokenizer.json").unlink()
    with pytest.raises(BackboneError, match="tokenizer_2/tokenizer.json is missing"):
        load_backbone(str(broken))


def test_parts_that_do_not_fit_are_found(broken):
    config = json.loads((broken / "text_encoder_2" / "config.json").read_text()) | {"projection_dim": 20}
    CLIPTextModelWithProjection(CLIPTextConfig(**config)).save_pretrained(broken / "text_encoder_2")
    with pytest.raises(BackboneError, match="text encoder gives pooled width 20, the denoiser reads 24"):
        load_backbone(str(broken))


@pytest.mark.parametrize(("name", "keeps_unet"), [("SanaPipeline", False), ("StableDiffusionXLImg2ImgPipeline", True)])
def test_pipelines_that_cannot_be_run_are_named(broken, name, keeps_unet):
    (broken / "model_index.json").write_text(json.dumps({"_class_name": name}))
    if not keeps_unet:
        (broken / "unet").rename(broken / "transformer")
    with pytest.raises(BackboneError, match=f"holds a {name}, which cannot be run here.*StableDiffusionXLPipeline"):
        load_backbone(str(broken))


def test_what_is_for_stable_diffusion_alone_says_so(backbone, tiny_backbone, engine, options):
    assert only_stable_diffusion(tiny_backbone, "it") is tiny_backbone
    with pytest.raises(
        BackboneError, match="python -m train.dapt works with Stable Diffusion 1.x only.*is Stable Diffusion XL"
    ):
        only_stable_diffusion(backbone, "python -m train.dapt")
    with pytest.raises(BackboneError, match="official release"):
        LiVO(engine, TextValueEncoder.untrained(backbone), official=True)
    with pytest.raises(ValueError, match="attn2|cross-attention|cross_attention_dim"):
        engine.add_unet("other", tiny_backbone.unet)
    bare = dataclasses.replace(engine.condition(PROMPT), pooled=None)
    plan = laws.plain(engine, options())
    with pytest.raises(ValueError, match="lacks the pooled embedding.*engine.condition"):
        engine.stream({"sd": dataclasses.replace(plan, branches={"cond": [bare]})})


def test_training_refuses_it_before_anything_is_drawn(folder, tmp_path):
    from train.value_encoder import main

    with pytest.raises(
        SystemExit, match="training a value encoder works with Stable Diffusion 1.x only.*is Stable Diffusion XL"
    ):
        main(["--backbone", str(folder), "--work", str(tmp_path)])
    assert not any(tmp_path.iterdir())


def test_edited_weights_made_elsewhere_are_read(engine, tmp_path, options):
    laws.edited_weights_made_elsewhere_are_read(engine, tmp_path, options())


def test_a_value_encoder_made_elsewhere_is_read(engine, broken, options):
    here = dataclasses.replace(engine.backbone, folder=broken)
    with pytest.raises(
        ValueEncoderError, match="value_encoder/text_encoder/config.json is missing.*none are published"
    ):
        load(Engine(here))
    made = TextValueEncoder.untrained(engine.backbone)
    with torch.no_grad():
        made.text.encoder.text_model.final_layer_norm.bias.add_(1.0)
    for name, network in made.text.encoders.items():
        network.save_pretrained(broken / "value_encoder" / name)
    livo = load(Engine(here))
    assert torch.equal(livo.value_encoder.encode("a", "b"), made.encode("a", "b"))
    assert livo.artefact(laws.BIAS).bytes > 100_000 and livo.artefact(None) is None
    weights = broken / "value_encoder" / name / "model.safetensors"
    save_file(
        {key: weight for key, weight in load_file(weights).items() if "layers.1.mlp.fc1" not in key},
        weights,
        {"format": "pt"},
    )
    with pytest.raises(ValueEncoderError, match="text_encoder_2 lacks 2 weights, such as .*layers.1.mlp.fc1"):
        load(Engine(here))
    network.config.hidden_size = 48
    type(network)(CLIPTextConfig(**network.config.to_dict())).save_pretrained(broken / "value_encoder" / name)
    with pytest.raises(ValueEncoderError, match="has width 48, backbone .*text_encoder_2 40"):
        load_value_encoder(broken / "value_encoder", here)
