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
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from baselines._benchmark.sides import sd15_networks
from livo.diffusion.backbones import BackboneError, load_backbone
from livo.diffusion.single_file import SCHEDULER, TEXT, UNET, UNET_2, VAE, clip_tokenizer, prediction_of

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def original_unet_key(key: str, layers: int, with_attention: set[str]) -> str:
    """The name of a diffusers U-Net weight in the original layout, where blocks are counted through."""
    for ours, theirs in ENDS.items():
        if key.startswith(f"{ours}."):
            return key.replace(ours, theirs, 1)
    side, rest = key.split(".", 1)
    if side == "mid_block":
        kind, number, rest = rest.split(".", 2)
        place = f"middle_block.{2 * int(number) if kind == 'resnets' else 1}"
        return f"{place}.{_resnet(rest) if kind == 'resnets' else rest}"
    block, kind, number, rest = rest.split(".", 3)
    block, number, first = int(block), int(number), side == "down_blocks"
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        place = 2 if f"{side}.{block}" in with_attention else 1
        return f"output_blocks.{block * (layers + 1) + layers}.{place}.{rest}"
    place = (
        f"input_blocks.{1 + block * (layers + 1) + number}"
        if first
        else f"output_blocks.{block * (layers + 1) + number}"
    )
    return f"{place}.0.{_resnet(rest)}" if kind == "resnets" else f"{place}.1.{rest}"


def _resnet(rest: str) -> str:
    part, end = rest.rsplit(".", 1)
    return f"{RESNET[part]}.{end}"


def original_vae_key(key: str, blocks: int) -> str:
    """The same for the VAE, whose decoder's blocks were counted from the other end."""
    key = re.sub(r"up_blocks\.(\d+)\.", lambda found: f"up.{blocks - 1 - int(found[1])}.", key)
    for ours, theirs in (
        (r"down_blocks\.(\d+)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
        (r"(up\.\d+)\.resnets", r"\1.block"),
        (r"(up\.\d+)\.upsamplers\.0", r"\1.upsample"), ("conv_shortcut", "nin_shortcut"),
        (r"mid_block\.resnets\.0", "mid.block_1"), (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
        (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
        (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"), ("conv_norm_out", "norm_out"),
    ):  # fmt: skip
        key = re.sub(ours, theirs, key)
    return key


def original_layout(unet: nn.Module, vae: nn.Module, text_encoder: nn.Module) -> dict[str, Tensor]:
    """One checkpoint in the CompVis layout, with the buffers that such files also hold."""
    layers = unet.config.layers_per_block
    with_attention = {".".join(key.split(".")[:2]) for key in unet.state_dict() if ".attentions." in key}
    state = {
        f"model.diffusion_model.{original_unet_key(k, layers, with_attention)}": w for k, w in unet.state_dict().items()
    }
    for key, weight in vae.state_dict().items():
        name = original_vae_key(key, len(vae.config.block_out_channels))
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name):
            weight = weight[:, :, None, None]  # 1 x 1 convolutions, at the time
        state[f"first_stage_model.{name}"] = weight
    state |= {f"{TEXT}{key}": weight for key, weight in text_encoder.state_dict().items()}
    state[f"{TEXT}embeddings.position_ids"] = torch.arange(77)[None]
    state |= {"betas": torch.zeros(1000), "model_ema.decay": torch.tensor(0.9999)}
    return {key: weight.detach().contiguous().clone() for key, weight in state.items()}


YAML = {
    "model": {"params": {
        "scale_factor": 0.18215,
        "unet_config": {"params": {
            "in_channels": 4, "out_channels": 4, "model_channels": 32, "attention_resolutions": [1],
            "num_res_blocks": 1,
            "channel_mult": [1, 2], "num_heads": 4, "transformer_depth": 1, "context_dim": 64,
        }},
        "first_stage_config": {"params": {"ddconfig": {
            "z_channels": 4, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1,
        }}},
    }}
}  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> tuple[nn.Module, nn.Module, nn.Module]:
    """A U-Net, a VAE and a text encoder that `YAML` describes, with CLIP's own vocabulary."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=256, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=64, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64), layers_per_block=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1,
        bos_token_id=49406, eos_token_id=2,
    )  # fmt: skip
    return unet, vae, CLIPTextModel(config)


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


def broken(checkpoint: Path, tmp_path: Path, change) -> str:
    state = load_file(checkpoint)
    change(state)
    path = tmp_path / "broken.safetensors"
    save_file(state, path)
    shutil.copy(checkpoint.with_suffix(".yaml"), path.with_suffix(".yaml"))
    return str(path)


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


# --- Stable Diffusion 2.x --------------------------------------------------------------------------------------------

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


def test_stable_diffusion_2_reads_as_open_clip_does(second, tower, no_network):
    backbone = load_backbone(str(second), "cpu")
    assert backbone.kind == "Stable Diffusion 2.x"
    assert backbone.scheduler_config["prediction_type"] == "v_prediction"
    for prompt in ("", "a photo of a doctor", "word " * 99):
        found, wanted = backbone.text.condition(prompt).prompt_embeds, read_by_open_clip(tower, prompt)
        assert (found - wanted).abs().max() < 1e-5, prompt
    assert backbone.unet.config.use_linear_projection and backbone.unet.config.attention_head_dim == [4, 8]


def test_stable_diffusion_2_draws_what_the_pipeline_draws(second, options):
    from diffusers import DPMSolverMultistepScheduler

    from baselines.stable_diffusion import StableDiffusion
    from livo.diffusion.engine import Engine

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
    assert prediction_of(drawn.unet, drawn.text.condition("").prompt_embeds[None]) == "epsilon"
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
