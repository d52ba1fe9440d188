"""Checkpoints in the original CompVis layout, written by rules of our own from tiny random parts."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from livo.diffusion.single_file import TEXT

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


def tiny_parts() -> tuple[nn.Module, nn.Module, nn.Module]:
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


def broken(checkpoint: Path, tmp_path: Path, change) -> str:
    state = load_file(checkpoint)
    change(state)
    path = tmp_path / "broken.safetensors"
    save_file(state, path)
    shutil.copy(checkpoint.with_suffix(".yaml"), path.with_suffix(".yaml"))
    return str(path)
