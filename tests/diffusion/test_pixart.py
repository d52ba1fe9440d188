"""PixArt, alpha and sigma, at tiny random size: T5, a transformer instead of a U-Net, a variance beside the noise."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import string
from pathlib import Path

import laws
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)
from plans import PROMPT, state_hash
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from livo.diffusion.backbones import BackboneError, Defaults, load_backbone, only_stable_diffusion
from livo.diffusion.engine import Engine
from livo.methods.livo import LiVO, load
from livo.methods.value_encoder import TextValueEncoder, ValueEncoderError, value_text
from livo.types import InputError

LONG = "a very long prompt of many words " * 20
AS_IT_IS = {"clean_caption": False, "use_resolution_binning": False}
"""How the pipelines are asked to take prompt and size."""


def tiny_t5_tokenizer() -> T5Tokenizer:
    """One token a letter, its end token appended."""
    letters = [(c, -3.0) for c in string.ascii_lowercase + "▁,."]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters, ("▁black", -1.0)], extra_ids=0)


def build(path: Path, pipeline, **transformer) -> Path:
    torch.manual_seed(0)
    network = PixArtTransformer2DModel(
        num_attention_heads=4, attention_head_dim=12, num_layers=2, cross_attention_dim=48, caption_channels=24,
        norm_num_groups=8, **transformer,
    )  # fmt: skip
    with torch.no_grad():  # fresh attention hardly listens to the text; here a changed text must show
        for name, parameter in network.named_parameters():
            if ".attn2." in name or name.startswith("caption"):
                parameter.mul_(3)
    vae = AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=4, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    tokenizer = tiny_t5_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=24,
        d_ff=48,
        d_kv=8,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
    )
    pipeline(
        tokenizer=tokenizer, text_encoder=T5EncoderModel(config), vae=vae, transformer=network,
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    ).save_pretrained(path)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def alpha_folder(tmp_path_factory) -> Path:
    """Of "1024" pixels, hence with resolution and aspect ratio. Read-only by agreement."""
    return build(tmp_path_factory.mktemp("alpha"), PixArtAlphaPipeline, sample_size=128)


@pytest.fixture(scope="module")
def sigma_folder(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("sigma"), PixArtSigmaPipeline, sample_size=8)


@pytest.fixture(scope="module")
def backbone(alpha_folder):
    return load_backbone(str(alpha_folder), "cpu")


@pytest.fixture
def engine(backbone):
    return Engine(backbone)


@pytest.fixture
def pipe(alpha_folder):
    return PixArtAlphaPipeline.from_pretrained(alpha_folder)


@pytest.fixture
def broken(sigma_folder, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(sigma_folder, tmp_path / "model"))


def test_it_is_recognised_by_its_index(backbone, sigma_folder):
    sigma = load_backbone(str(sigma_folder), "cpu")
    assert backbone.defaults == Defaults(20, 4.5, 256, 256) and sigma.defaults == Defaults(20, 4.5, 16, 16)
    assert (backbone.max_length, sigma.max_length) == (120, 300)
    assert backbone.unet.use_additional_conditions and not sigma.unet.use_additional_conditions
    for part in (backbone.text_encoder, backbone.unet, backbone.vae):
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    assert Engine(backbone).scheduler_class is DPMSolverMultistepScheduler


@pytest.mark.parametrize("prompt", [PROMPT, LONG, "  Doctor, A "])
def test_alpha_is_its_pipeline(engine, pipe, options, prompt):
    ask = options(seeds=(3, 1), num_inference_steps=4, width=24)
    plan = laws.plain(engine, ask, prompt)
    assert len(plan.branches["uncond"][0].prompt_embeds) == 1, "the empty prompt is its end token"
    assert (len(plan.branches["cond"][0].prompt_embeds) == 120) == (prompt == LONG), "no padding, and cut as they cut"
    expected = laws.sampled(pipe, ask, prompt=prompt, **AS_IT_IS)
    assert laws.apart(engine.sample({"sd": plan})["sd"], expected) < 1e-4
    images = laws.sampled(pipe, ask, images=True, prompt=prompt, **AS_IT_IS)
    assert (engine.generate({"sd": plan})["sd"].int() - images.int()).abs().max() <= 1


def test_sigma_is_its_pipeline(sigma_folder, options):
    engine, pipe = Engine(load_backbone(str(sigma_folder), "cpu")), PixArtSigmaPipeline.from_pretrained(sigma_folder)
    for prompt, tokens in ((PROMPT, 21), (LONG, 300)):
        plan = laws.plain(engine, options(), prompt)
        assert len(plan.branches["cond"][0].prompt_embeds) == tokens
        expected = laws.sampled(pipe, options(), prompt=prompt, **AS_IT_IS)
        assert laws.apart(engine.sample({"sd": plan})["sd"], expected) < 1e-4


def test_a_network_without_a_variance_is_its_pipeline(tmp_path, options):
    folder = build(tmp_path, PixArtAlphaPipeline, sample_size=8, out_channels=4)
    engine, pipe = Engine(load_backbone(str(folder), "cpu")), PixArtAlphaPipeline.from_pretrained(folder)
    expected = laws.sampled(pipe, options(), prompt=PROMPT, **AS_IT_IS)
    assert laws.apart(engine.sample({"sd": laws.plain(engine, options())})["sd"], expected) < 1e-4


def test_the_comparison_sees_every_part(engine, pipe, options, monkeypatch):
    expected = laws.sampled(pipe, options(), prompt=PROMPT, **AS_IT_IS)
    right = laws.plain(engine, options())
    kind = type(engine.denoiser)

    def off(plan=right) -> float:
        return laws.apart(engine.sample({"sd": plan})["sd"], expected)

    assert off() < 1e-4
    padded = dataclasses.replace(right.branches["cond"][0], prompt_embeds=torch.nn.functional.pad(
        right.branches["cond"][0].prompt_embeds, (0, 0, 0, 100)
    ))  # fmt: skip
    assert off(dataclasses.replace(right, branches={**right.branches, "cond": [padded]})) > 1e-3, (
        "padding that nothing hides"
    )
    for part, wrong in (
        ("read", lambda self, embeds: 2 * self.net.caption_projection(embeds)),
        ("conditions", lambda self, rows, pooled, *_, right=kind.conditions: right(self, rows, pooled, (64, 16))),
        ("__call__", lambda self, *args, right=kind.__call__, **kwargs: right(self, *args, **kwargs).flip(1)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(kind, part, wrong)
            assert off() > 1e-3, part


def test_texts_are_encoded_in_one_batch(backbone):
    laws.texts_are_encoded_in_one_batch(backbone, calls=3)  # three lengths: they are not padded


def test_one_batch_equals_method_by_method(engine, options, count_rows):
    laws.one_batch_equals_method_by_method(
        engine, options(seeds=(0, 1), num_inference_steps=3), count_rows(engine.backbone.unet)
    )


def test_equal_plans_cost_nothing(engine, options, count_rows):
    laws.equal_plans_cost_nothing(engine, options(), count_rows(engine.backbone.unet))


def test_no_principle_is_the_original_model(engine, options):
    laws.no_principle_is_the_original_model(engine, options(seeds=(0, 1)))


def test_a_value_token_reaches_the_pipeline_alike(backbone, engine, pipe, options):
    """The value token is T5's state at the end token, and the pipeline's mask counts it."""
    encoder = TextValueEncoder.untrained(backbone)
    ids = backbone.tokenizer(value_text(laws.BIAS.text, PROMPT), return_tensors="pt").input_ids
    assert ids[0, -1] == backbone.tokenizer.eos_token_id
    assert torch.allclose(
        encoder.encode(laws.BIAS.text, PROMPT), backbone.text_encoder(ids).last_hidden_state[0, -1], atol=1e-6
    )
    assert encoder.text.encoder is not backbone.text_encoder
    plan = LiVO(engine, encoder, mixing_rate=1.0).plan(PROMPT, laws.BIAS, options())
    embeds = {branch: texts[0].prompt_embeds for branch, texts in plan.branches.items()}
    longest = len(embeds["cond"])
    padded = {
        branch: torch.nn.functional.pad(e, (0, 0, 0, longest - len(e)), value=3.0)[None] for branch, e in embeds.items()
    }
    masks = {branch: (torch.arange(longest) < len(e)).long()[None] for branch, e in embeds.items()}
    expected = laws.sampled(
        pipe, options(), negative_prompt=None, prompt_embeds=padded["cond"], negative_prompt_embeds=padded["uncond"],
        prompt_attention_mask=masks["cond"], negative_prompt_attention_mask=masks["uncond"], **AS_IT_IS,
    )  # fmt: skip
    assert laws.apart(engine.sample({"livo": plan})["livo"], expected) < 1e-4


def test_an_edit_is_the_pipeline_with_edited_weights(engine, pipe, options):
    laws.an_edit_is_the_pipeline_with_edited_weights(engine, options(), pipe, **AS_IT_IS)


def test_a_transformer_of_its_own_runs_beside(backbone, engine, options, tiny_backbone):
    before, own = state_hash(backbone.unet), copy.deepcopy(backbone.unet)
    with torch.no_grad():
        own.proj_out.weight.mul_(1.3)
    engine.add_unet("own", own)
    plan = laws.plain(engine, options())
    latents = engine.sample({"base": plan, "own": dataclasses.replace(plan, unet_override="own")})
    assert laws.apart(latents["own"], latents["base"]) > 1e-2 and state_hash(backbone.unet) == before
    with pytest.raises(ValueError, match="U-Net 'other' is a UNet2DConditionModel, not a PixArtTransformer2DModel"):
        engine.add_unet("other", tiny_backbone.unet)


def test_words_are_looked_up_in_its_own_vocabulary(backbone, tiny_backbone):
    assert backbone.text.knows("black") and not backbone.text.knows("asian")
    assert tiny_backbone.text.knows("a") and not tiny_backbone.text.knows("black")


def test_sizes_are_whole_patches(engine, options):
    with pytest.raises(InputError, match="height of 18 pixels.*multiple of 4"):
        engine.stream({"sd": laws.plain(engine, options(height=18))})


def test_the_full_size_architecture_takes_the_same_calls():
    denoiser = laws.laid_out(PixArtTransformer2DModel, caption_channels=4096)
    assert sum(p.numel() for p in denoiser.net.parameters()) == 611_349_152
    assert (denoiser.text_width, denoiser.pooled_width, denoiser.patch) == (4096, 0, 2)
    keys = laws.a_call_of_two_lengths_fits(denoiser, (1, 121), 128)
    assert len(keys) == 28 and set(keys.values()) == {(1, 16, 121, 72)}
    assert 300e6 < denoiser.row_bytes(128, 128) < 450e6, "the tensors alive at once come to 228 MB, in float32"


def test_operations_are_counted(engine, options):
    assert engine.row_flop(options(height=32, width=32)) > 2 * engine.row_flop(options()) > 0


def test_what_is_fetched_from_the_hub_is_enough(alpha_folder, tmp_path, options):
    laws.what_is_fetched_from_the_hub_is_enough(alpha_folder, tmp_path, options(num_inference_steps=1))


def test_bfloat16_samples(alpha_folder, options):
    laws.bfloat16_samples(alpha_folder, options(num_inference_steps=2))


def test_what_it_lacks_is_named(broken):
    (broken / "transformer" / "config.json").unlink()
    with pytest.raises(BackboneError, match="transformer/config.json is missing: copy .* again"):
        load_backbone(str(broken))


def test_a_vocabulary_that_sentencepiece_would_read_is_named(broken, monkeypatch):
    (broken / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(BackboneError, match="tokenizer/tokenizer.json is missing"):
        load_backbone(str(broken))
    (broken / "tokenizer" / "spiece.model").write_bytes(b"pieces")
    monkeypatch.setattr("livo.diffusion.backbones._has", lambda module: module != "sentencepiece")
    with pytest.raises(
        BackboneError, match=r"spiece.model is read by sentencepiece \(sentencepiece not installed\): `pip install"
    ):
        load_backbone(str(broken))


def test_parts_that_do_not_fit_are_found(broken):
    config = json.loads((broken / "text_encoder" / "config.json").read_text()) | {"d_model": 40}
    T5EncoderModel(T5Config(**config)).save_pretrained(broken / "text_encoder")
    with pytest.raises(BackboneError, match="text encoder gives width 40, the denoiser reads 24"):
        load_backbone(str(broken))


def test_what_is_for_stable_diffusion_alone_says_so(backbone):
    with pytest.raises(BackboneError, match="python -m train.uce works with Stable Diffusion 1.x only.*is PixArt"):
        only_stable_diffusion(backbone, "python -m train.uce")


def test_edited_weights_made_elsewhere_are_read(engine, tmp_path, options):
    laws.edited_weights_made_elsewhere_are_read(engine, tmp_path, options())


def test_a_value_encoder_made_elsewhere_is_read(engine, broken):
    here = dataclasses.replace(engine.backbone, folder=broken)
    made = TextValueEncoder.untrained(engine.backbone)
    with torch.no_grad():
        made.text.encoder.encoder.final_layer_norm.weight.mul_(2.0)
    folder = broken / "value_encoder" / "text_encoder"
    made.text.encoder.save_pretrained(folder)
    livo = load(Engine(here))
    assert torch.equal(livo.value_encoder.encode("a", "b"), made.encode("a", "b"))
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueEncoderError, match="text_encoder cannot be read"):
        load(Engine(here))
