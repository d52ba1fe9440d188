"""A tiny random model, rewritten into the original CompVis layout by rules of our own, must come back the same."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
import yaml
from diffusers import PNDMScheduler, StableDiffusionPipeline
from original import YAML, broken, original_layout, tiny_parts
from safetensors.torch import save_file
from torch import nn

from baselines._benchmark.sides import sd15_networks
from livo.diffusion.backbones import BackboneError, load_backbone
from livo.diffusion.single_file import SCHEDULER, TEXT, clip_tokenizer


@pytest.fixture(scope="module")
def parts() -> tuple[nn.Module, nn.Module, nn.Module]:
    return tiny_parts()


@pytest.fixture(scope="module")
def checkpoint(parts, tmp_path_factory) -> Path:
    """Beside it nothing but the original YAML."""
    path = tmp_path_factory.mktemp("single") / "dream.safetensors"
    save_file(original_layout(*parts), path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump(YAML), encoding="utf-8")
    return path


@pytest.fixture
def no_network(monkeypatch):
    """Whatever would open a connection fails the test."""

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def same_weights(loaded: nn.Module, wanted: nn.Module) -> bool:
    theirs = wanted.state_dict()
    return loaded.state_dict().keys() == theirs.keys() and all(
        torch.equal(w, theirs[k]) for k, w in loaded.state_dict().items()
    )


def test_with_the_original_yaml_and_without_a_network(parts, checkpoint, no_network):
    backbone = load_backbone(str(checkpoint), "cpu")
    for loaded, wanted in zip((backbone.unet, backbone.vae, backbone.text_encoder), parts, strict=True):
        assert same_weights(loaded, wanted) and not loaded.training
    assert backbone.scheduler_config["_class_name"] == "PNDMScheduler"
    assert {key: backbone.scheduler_config[key] for key in SCHEDULER if key[0] != "_"} == {
        k: v for k, v in SCHEDULER.items() if k[0] != "_"
    }
    assert backbone.folder == checkpoint.with_suffix("") and backbone.vae.config.scaling_factor == 0.18215


def test_it_makes_the_images_that_the_pipeline_makes(parts, checkpoint, options):
    from baselines.stable_diffusion import StableDiffusion
    from livo.diffusion.engine import Engine

    engine = Engine(load_backbone(str(checkpoint), "cpu"))
    ask = options(seeds=(3, 1), num_inference_steps=3)
    ours = engine.generate({"sd": StableDiffusion(engine).plan("a photo of a doctor", None, ask)})["sd"]
    unet, vae, text_encoder = parts
    from diffusers import DPMSolverMultistepScheduler

    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=clip_tokenizer(), unet=unet, safety_checker=None,
        scheduler=DPMSolverMultistepScheduler.from_config(PNDMScheduler.from_config(SCHEDULER).config),
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        ["a photo of a doctor"] * 2, num_inference_steps=3, guidance_scale=5.0, height=16, width=16, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 1)],
    ).images  # fmt: skip
    assert (ours.float() - 255 * theirs).abs().max() <= 0.51 and ours.float().std() > 5


def test_configs_in_diffusers_format_around_the_file_come_first(tiny_folder, tmp_path, no_network):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "repository"))
    wanted = load_backbone(str(folder), "cpu")
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    save_file(original_layout(wanted.unet, wanted.vae, wanted.text_encoder), folder / "v1.safetensors")
    backbone = load_backbone(str(folder / "v1.safetensors"), "cpu", "bfloat16")
    assert backbone.tokenizer.vocab_size == 514 and backbone.text_encoder.config.num_attention_heads == 4
    assert backbone.dtype == torch.bfloat16
    assert same_weights(backbone.unet, wanted.unet.to(torch.bfloat16))
    wanted.unet.float()


def test_without_any_config_it_is_stable_diffusion_1(no_network):
    """At the real size, on the meta device: names and shapes of all 1,130 weights are those that diffusers expects."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    unet, vae, text_encoder = sd15_networks(torch.device("meta"))
    state = {k: w.to("meta") for k, w in original_layout(unet, vae, text_encoder).items()}
    assert len([k for k in state if k.startswith("model.diffusion_model.")]) == 686
    assert {k: w.shape for k, w in convert_ldm_unet_checkpoint(state, unet.config).items()} == {
        k: w.shape for k, w in unet.state_dict().items()
    }
    assert {k: w.shape for k, w in convert_ldm_vae_checkpoint(state, vae.config).items()} == {
        k: w.shape for k, w in vae.state_dict().items()
    }


def test_clips_tokenizer_is_clips():
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    theirs = open_clip.SimpleTokenizer()
    for text in ("a photo of a doctor", "An astronaut's portrait, 35mm; café 東京!", "x" * 40):
        assert tokenizer(text).input_ids == [49406, *theirs.encode(text), 49407], text
    assert tokenizer("a photo of a").input_ids == [49406, 320, 1125, 539, 320, 49407]
    ids = tokenizer("x y " * 99, padding="max_length", truncation=True, max_length=77).input_ids
    assert len(ids) == 77 and ids[-1] == 49407


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda state: state.pop("model.diffusion_model.out.2.weight"),
            "weights of the U-Net or of the VAE are missing",
        ),
        (
            lambda state: state.pop("first_stage_model.decoder.conv_in.weight"),
            "weights of the U-Net or of the VAE are missing",
        ),
        (lambda state: state.pop(f"{TEXT}final_layer_norm.weight"), "final_layer_norm.weight"),
        (lambda state: state.pop(f"{TEXT}embeddings.token_embedding.weight"), "holds no text encoder"),
        (
            lambda state: [state.pop(k) for k in list(state) if k.startswith("model.")],
            "no checkpoint in the original layout",
        ),
    ],
)
def test_what_is_missing_is_said(checkpoint, tmp_path, change, says):
    with pytest.raises(BackboneError, match=re.escape(says)):
        load_backbone(broken(checkpoint, tmp_path, change), "cpu")


def test_broken_missing_and_unsafe_files(checkpoint, tmp_path):
    path = tmp_path / "half.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(BackboneError, match="half.safetensors cannot be read.*copy"):
        load_backbone(str(path))
    with pytest.raises(BackboneError, match="none.safetensors cannot be read"):
        load_backbone(str(tmp_path / "none.safetensors"))
    with pytest.raises(BackboneError, match="may run code.*convert it to .safetensors"):
        load_backbone("models/dream.ckpt")


def test_the_yaml_decides(parts, checkpoint, tmp_path):
    path = tmp_path / "other.safetensors"
    shutil.copy(checkpoint, path)
    wrong = json.loads(json.dumps(YAML))
    wrong["model"]["params"]["unet_config"]["params"]["model_channels"] = 64
    path.with_suffix(".yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    with pytest.raises(BackboneError, match="does not load"):
        load_backbone(str(path), "cpu")


def test_a_v_prediction_of_1_is_told_by_its_yaml(checkpoint, tmp_path):
    path = tmp_path / "v.safetensors"
    shutil.copy(checkpoint, path)
    given = json.loads(json.dumps(YAML))
    given["model"]["params"]["parameterization"] = "v"
    path.with_suffix(".yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    assert load_backbone(str(path), "cpu").scheduler_config["prediction_type"] == "v_prediction"
    path.with_suffix(".yaml").write_text("model: 3", encoding="utf-8")
    with pytest.raises(BackboneError, match="holds no model.params"):
        load_backbone(str(path), "cpu")


@pytest.mark.parametrize(("channels", "says"), [(9, "inpainting"), (5, "depth")])
def test_files_made_for_something_else(parts, tmp_path, channels, says):
    """Without a yaml and at real width in its first layer alone: the reason must come before any error of shapes."""
    unet, vae, text_encoder = parts
    state = original_layout(unet, vae, text_encoder)
    weight = state["model.diffusion_model.input_blocks.0.0.weight"]
    state["model.diffusion_model.input_blocks.0.0.weight"] = weight[:, :1].repeat(1, channels, 1, 1)
    save_file(state, path := tmp_path / "other.safetensors")
    with pytest.raises(BackboneError, match=f"made for {says}.*{channels} channels"):
        load_backbone(str(path), "cpu")
