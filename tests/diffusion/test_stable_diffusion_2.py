"""Stable Diffusion 2.x in one file: OpenCLIP's text encoder, and noise or v told by the file or by the network."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
import yaml
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from original import YAML, broken, original_layout, tiny_parts
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.backbones import BackboneError, load_backbone
from livo.diffusion.engine import Engine
from livo.diffusion.single_file import SCHEDULER, UNET, UNET_2, VAE, clip_tokenizer, prediction_of


@pytest.fixture(scope="module")
def parts() -> tuple[nn.Module, nn.Module, nn.Module]:
    return tiny_parts()


OPEN_TEXT = "cond_stage_model.model."


@pytest.fixture(scope="module")
def tower() -> nn.Module:
    """OpenCLIP's own text encoder, tiny: the last of its three blocks is not read."""
    torch.manual_seed(2)
    tower = open_clip.transformer.TextTransformer(width=64, heads=1, layers=3, output_dim=64).eval()
    with torch.no_grad():
        for name, weight in tower.named_parameters():  # fresh biases are zeros, and would hide a name that is wrong
            if name.endswith("bias"):
                weight.normal_(std=0.1)
    return tower


@pytest.fixture(scope="module")
def second(parts, tower, tmp_path_factory) -> Path:
    """Stable Diffusion 2.x in one file: OpenCLIP's text encoder, linear projections in the U-Net."""
    config = {key: value for key, value in parts[0].config.items() if not key.startswith("_")}
    unet = UNet2DConditionModel(**config | {"attention_head_dim": [4, 8], "use_linear_projection": True})
    text = {f"{OPEN_TEXT}{key}": weight for key, weight in tower.state_dict().items()}
    text[f"{OPEN_TEXT}logit_scale"] = torch.tensor(4.6)
    state = {k: w for k, w in original_layout(unet, *parts[1:]).items() if not k.startswith("cond_stage_model.")}
    path = tmp_path_factory.mktemp("second") / "dream2.safetensors"
    save_file({k: w.detach().contiguous().clone() for k, w in (state | text).items()}, path)
    given = json.loads(json.dumps(YAML))
    given["model"]["params"]["parameterization"] = "v"
    params = given["model"]["params"]["unet_config"]["params"]
    params |= {"use_linear_in_transformer": True, "num_head_channels": 8}
    del params["num_heads"]
    path.with_suffix(".yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    return path


@torch.inference_mode()
def read_by_open_clip(tower: nn.Module, prompt: str) -> Tensor:
    """What Stable Diffusion 2.x reads of a prompt: OpenCLIP's last but one states, normalised."""
    hidden = tower.token_embedding(open_clip.tokenize(prompt)) + tower.positional_embedding
    for block in tower.transformer.resblocks[:-1]:
        hidden = block(hidden, attn_mask=tower.attn_mask)
    return tower.ln_final(hidden)[0]


def test_stable_diffusion_2_reads_as_open_clip_does(second, tower):
    backbone = load_backbone(str(second), "cpu")
    assert backbone.kind == "Stable Diffusion 2.x"
    assert backbone.scheduler_config["prediction_type"] == "v_prediction"
    for prompt in ("", "a photo of a doctor", "word " * 99):
        found, wanted = backbone.text.conditions([prompt])[0].prompt_embeds, read_by_open_clip(tower, prompt)
        assert (found - wanted).abs().max() < 1e-5, prompt
    assert backbone.unet.config.use_linear_projection and backbone.unet.config.attention_head_dim == [4, 8]


def test_stable_diffusion_2_draws_what_the_pipeline_draws(second, options):
    backbone = load_backbone(str(second), "cpu")
    engine = Engine(backbone)
    ours = engine.sample({"sd": StableDiffusion(engine).plan("a photo of a doctor", None, options(seeds=(3, 1)))})["sd"]
    scheduler = PNDMScheduler.from_config(SCHEDULER | {"prediction_type": "v_prediction"})
    pipe = StableDiffusionPipeline(
        vae=backbone.vae, text_encoder=backbone.text_encoder, tokenizer=clip_tokenizer("!"), unet=backbone.unet,
        scheduler=DPMSolverMultistepScheduler.from_config(scheduler.config), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        ["a photo of a doctor"] * 2, num_inference_steps=3, guidance_scale=5.0, height=16, width=16,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 1)], output_type="latent",
    ).images  # fmt: skip
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_whether_noise_or_v_is_predicted_is_told_from_what_a_network_does(parts):
    """A network that was trained on noise gives it back; one that gives back anything else predicts v."""
    drawn = load_backbone("miniature", "cpu")
    assert prediction_of(drawn.unet, drawn.text.conditions([""])[0].prompt_embeds[None]) == "epsilon"
    assert prediction_of(parts[0], torch.zeros(1, 77, 64)) == "v_prediction"


def test_a_text_encoder_of_2_that_is_incomplete(second, tmp_path):
    path = broken(second, tmp_path, lambda state: state.pop(f"{OPEN_TEXT}transformer.resblocks.1.ln_2.bias"))
    with pytest.raises(BackboneError, match="encoder.layers.1.layer_norm2.bias"):
        load_backbone(path, "cpu")


def test_without_any_config_it_is_stable_diffusion_2():
    """At the real size, on the meta device: names and shapes are those that diffusers expects of 2.1's U-Net."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNET | UNET_2 | {"cross_attention_dim": 1024})
        vae = AutoencoderKL.from_config(VAE)
    assert sum(weight.numel() for weight in unet.parameters()) == 865_910_724
    state = {k: w.to("meta") for k, w in original_layout(unet, vae, nn.Module()).items()}
    assert {k: w.shape for k, w in convert_ldm_unet_checkpoint(state, unet.config).items()} == {
        k: w.shape for k, w in unet.state_dict().items()
    }
