"""Stable Diffusion 3 and Flux at tiny random size, for tests: complete folders, 16 latent channels, a shifted VAE."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from conftest import tiny_tokenizer
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

CLIP = {
    "vocab_size": 514, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "bos_token_id": 512, "eos_token_id": 2, "pad_token_id": 513,
}  # fmt: skip


def tiny_t5() -> tuple[T5Tokenizer, T5EncoderModel]:
    """One token a letter; width 96."""
    letters = [(c, -3.0) for c in string.ascii_letters + "▁,."]
    tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=96, d_ff=48, d_kv=8, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return tokenizer, T5EncoderModel(config)


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=16, norm_num_groups=8, scaling_factor=1.5,
        shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


LOUD_SD3 = {"add_k_proj": 5, "add_v_proj": 10, "to_q": 3}
LOUD_FLUX = LOUD_SD3 | {
    "norm1.linear": 4, "norm1_context.linear": 4, ".norm.linear": 4, "norm_added_k": 3, "norm_k.": 3,
    "text_embedder": 3,
}  # fmt: skip
"""By part of a weight's name, how much larger it is than afresh: one token of some hundreds must show."""


def listen(network: torch.nn.Module, loud: dict[str, float]) -> None:
    """Fresh networks hardly listen to the text; here a changed text must show."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            for part, factor in loud.items():
                if part in name:
                    parameter.mul_(factor)


def build_sd3(path: Path, t5: bool = True, scheduler: dict | None = None, **transformer) -> Path:
    """CLIP widths 32 + 40, pooled 16 + 24, T5's 96."""
    torch.manual_seed(0)
    network = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=96, caption_projection_dim=32, pooled_projection_dim=40, out_channels=16,
        pos_embed_max_size=16, **transformer,
    )  # fmt: skip
    listen(network, LOUD_SD3)
    first, second = (
        CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=width, projection_dim=pooled, **CLIP))
        for width, pooled in ((32, 16), (40, 24))
    )
    tokenizer_3, text_encoder_3 = tiny_t5() if t5 else (None, None)
    StableDiffusion3Pipeline(
        transformer=network, scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **(scheduler or {})}),
        vae=tiny_vae(), text_encoder=first, tokenizer=tiny_tokenizer(), text_encoder_2=second,
        tokenizer_2=tiny_tokenizer(), text_encoder_3=text_encoder_3, tokenizer_3=tokenizer_3,
    ).save_pretrained(path)  # fmt: skip
    return path


def build_flux(path: Path, guidance_embeds: bool = True) -> Path:
    """Like "dev", or like "schnell" without the guidance scale."""
    torch.manual_seed(0)
    network = FluxTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=96, pooled_projection_dim=32, guidance_embeds=guidance_embeds, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    listen(network, LOUD_FLUX)
    tokenizer_2, text_encoder_2 = tiny_t5()
    shift = {"use_dynamic_shifting": True, "shift": 3.0} if guidance_embeds else {"shift": 1.0}
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shift), vae=tiny_vae(), transformer=network,
        text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=32, **CLIP)), tokenizer=tiny_tokenizer(),
        text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2,
    ).save_pretrained(path)  # fmt: skip
    return path
