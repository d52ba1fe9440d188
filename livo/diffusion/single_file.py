"""Stable Diffusion 1.x as one .safetensors file in the original CompVis layout, without fetching anything.

diffusers converts the weights; what it would fetch from the hub is put together here. Shapes and settings come from the
first of these that there is: a diffusers folder's configs around the file (`model_index.json` beside it, as in hub
repositories), the original `<stem>.yaml` beside it, Stable Diffusion 1.x's own. The tokenizer is CLIP's, built from
the vocabulary that `open_clip` brings along.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

UNET = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
"""What differs from diffusers' defaults, which are Stable Diffusion 1.x's otherwise."""
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}  # fmt: skip
SCHEDULER = {
    "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "steps_offset": 1, "skip_prk_steps": True, "set_alpha_to_one": False,
}  # fmt: skip
TEXT = "cond_stage_model.transformer.text_model."
HEAD_WIDTH = 64
"""Of every attention head in CLIP's text encoders."""

Parts = tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel, AutoencoderKL, Mapping[str, Any]]


def load_single_file(path: Path, dtype: torch.dtype) -> Parts:
    """Tokenizer, text encoder, U-Net, VAE and the scheduler's config of a checkpoint.

    Raises:
        ValueError: the file is no Stable Diffusion 1.x checkpoint in the original layout, or weights are missing in it.
        OSError, RuntimeError, KeyError: what diffusers and safetensors raise for files that do not fit their configs.
    """
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        if not any(key.startswith("model.diffusion_model.") for key in keys):
            raise ValueError("it holds no model.diffusion_model.*: no checkpoint in the original layout")
        if f"{TEXT}embeddings.token_embedding.weight" not in keys:
            raise ValueError(f"it holds no {TEXT}*: no Stable Diffusion 1.x (SD 2 and SDXL have other text encoders)")
        text_config = _text_config(file, keys)
    beside, yaml = path.parent / "model_index.json", path.with_suffix(".yaml")
    with tempfile.TemporaryDirectory() as scratch:
        config = path.parent if beside.is_file() else _own_configs(Path(scratch), text_config)
        own_tokenizer = (config / "tokenizer").is_dir()
        try:
            pipe = StableDiffusionPipeline.from_single_file(
                str(path), config=str(config), local_files_only=True, torch_dtype=dtype, safety_checker=None,
                feature_extractor=None, requires_safety_checker=False,
                **({} if own_tokenizer else {"tokenizer": clip_tokenizer()}),
                **({"original_config": str(yaml)} if yaml.is_file() else {}),
            )  # fmt: skip
        except RuntimeError as error:
            if "meta tensor" not in str(error):  # diffusers leaves what it does not find there
                raise
            raise ValueError("weights of the U-Net or of the VAE are missing in it") from error
    if missing := [key for key, weight in pipe.text_encoder.named_parameters() if weight.is_meta]:
        raise ValueError(f"{len(missing)} weights of the text encoder are missing in it, such as {missing[0]}")
    return pipe.tokenizer, pipe.text_encoder, pipe.unet, pipe.vae, pipe.scheduler.config


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, 49,408 entries, as Stable Diffusion 1.x has it."""
    import open_clip  # only here: with torchvision it takes seconds

    source = open_clip.SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(word, word): number for word, number in source.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(source.bpe_ranks), model_max_length=77)


def _text_config(file: Any, keys: set[str]) -> dict[str, Any]:
    """The text encoder's sizes, read from its weights."""
    vocabulary, width = file.get_slice(f"{TEXT}embeddings.token_embedding.weight").get_shape()
    positions, _ = file.get_slice(f"{TEXT}embeddings.position_embedding.weight").get_shape()
    inner, _ = file.get_slice(f"{TEXT}encoder.layers.0.mlp.fc1.weight").get_shape()
    layers = {
        key.removeprefix(f"{TEXT}encoder.layers.").split(".")[0]
        for key in keys
        if key.startswith(f"{TEXT}encoder.layers.")
    }
    return {
        "model_type": "clip_text_model", "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": len(layers), "num_attention_heads": max(1, width // HEAD_WIDTH),
        "max_position_embeddings": positions, "hidden_act": "quick_gelu", "bos_token_id": vocabulary - 2,
        "eos_token_id": 2, "pad_token_id": vocabulary - 1,
    }  # fmt: skip


def _own_configs(folder: Path, text_config: Mapping[str, Any]) -> Path:
    """Writes the configs of Stable Diffusion 1.x as a diffusers folder without weights."""
    index = {
        "_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "scheduler": ["diffusers", SCHEDULER["_class_name"]],
        "safety_checker": [None, None], "feature_extractor": [None, None],
    }  # fmt: skip
    files = {
        "model_index.json": index,
        "unet/config.json": {"_class_name": "UNet2DConditionModel", **UNET},
        "vae/config.json": {"_class_name": "AutoencoderKL", **VAE},
        "text_encoder/config.json": text_config,
        "scheduler/scheduler_config.json": SCHEDULER,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder
