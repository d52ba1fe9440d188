"""Stable Diffusion 1.x as one .safetensors file in the original CompVis layout, without fetching anything.

diffusers converts the weights; what it would fetch from the hub is put together here. Shapes and settings come from the
first of these that there is: a diffusers folder's configs around the file (`model_index.json` beside it, as in hub
repositories), the original `<stem>.yaml` beside it, Stable Diffusion 1.x's own. The tokenizer is CLIP's, built from
the vocabulary that `open_clip` brings along.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from livo.diffusion.model_files import ModelFileError, kind_of_weights

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
UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."

OLD_PREFIXES = (
    (r"^(?:state_dict|module)\.(?=(?:model\.diffusion_model|first_stage_model|cond_stage_model)\.)", ""),
    (r"^(cond_stage_model\.transformer\.)(?=embeddings\.|encoder\.|final_layer_norm\.)", r"\1text_model."),
)  # fmt: skip
"""Names of older files and merges, and what makes them today's: a wrapper's prefix, a text model without its own."""


def load_single_file(path: Path, dtype: torch.dtype, vae: AutoencoderKL | None = None) -> dict[str, Any]:
    """`Backbone`'s fields of a checkpoint: tokenizer, text encoder, U-Net, VAE and the scheduler's config.

    Args:
        vae: in place of the file's own, which may then be missing.

    Raises:
        ModelFileError: the file is no Stable Diffusion 1.x checkpoint in the original layout; the message says what it
            is, or what is missing in it.
        OSError, RuntimeError, KeyError: what diffusers and safetensors raise for files that do not fit their configs.
    """
    with safe_open(path, "pt") as file:
        keys = list(file.keys())
    renamed = {key: _todays_name(key) for key in keys}
    names = set(renamed.values())
    if what := kind_of_weights(names):
        raise ModelFileError(f"{path} is {what}")
    if not any(name.startswith(UNET_PREFIX) for name in names):
        raise ModelFileError(
            f"{path} holds no {UNET_PREFIX}*, so it is no checkpoint in the original layout: give a Stable Diffusion "
            "1.x checkpoint, or a folder in diffusers format"
        )
    if vae is None and not any(name.startswith(VAE_PREFIX) for name in names):
        raise ModelFileError(f"{path} holds no VAE ({VAE_PREFIX}*): give one with --vae FOLDER_OR_FILE")
    if any(name.startswith("cond_stage_model.model.") for name in names):
        raise ModelFileError(f"{path} is a Stable Diffusion 2 checkpoint in one file: give it as a folder in diffusers "
                             "format, or by its hub id")  # fmt: skip
    if f"{TEXT}embeddings.token_embedding.weight" not in names:
        raise ModelFileError(
            f"{path} holds no {TEXT}*, so it is no Stable Diffusion 1.x checkpoint: give a complete one"
        )
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(scratch)
        if any(key != name for key, name in renamed.items()):
            state = load_file(path)
            path_read = own / "renamed.safetensors"
            save_file({renamed[key]: weight for key, weight in state.items()}, path_read)
        else:
            path_read = path
        return _load(path, path_read, dtype, vae, own)


def _todays_name(key: str) -> str:
    for old, new in OLD_PREFIXES:
        key = re.sub(old, new, key)
    return key


def _load(path: Path, path_read: Path, dtype: torch.dtype, vae: AutoencoderKL | None, scratch: Path) -> dict[str, Any]:
    with safe_open(path_read, "pt") as file:
        text_config = _text_config(file, set(file.keys()))
    beside, yaml = path.parent / "model_index.json", path.with_suffix(".yaml")
    config = path.parent if beside.is_file() else _own_configs(scratch, text_config)
    own_tokenizer = (config / "tokenizer").is_dir()
    try:
        pipe = StableDiffusionPipeline.from_single_file(
            str(path_read), config=str(config), local_files_only=True, torch_dtype=dtype, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
            **({} if own_tokenizer else {"tokenizer": clip_tokenizer()}),
            **({} if vae is None else {"vae": vae}),
            **({"original_config": str(yaml)} if yaml.is_file() else {}),
        )  # fmt: skip
    except RuntimeError as error:
        if "meta tensor" not in str(error):  # diffusers leaves what it does not find there
            raise
        raise ModelFileError(
            f"{path} does not load (weights of the U-Net or of the VAE are missing in it): download or copy it again"
        ) from error
    if missing := [key for key, weight in pipe.text_encoder.named_parameters() if weight.is_meta]:
        raise ModelFileError(
            f"{path} does not load ({len(missing)} weights of the text encoder are missing in it, such as "
            f"{missing[0]}): download or copy it again"
        )
    return {"tokenizer": pipe.tokenizer, "text_encoder": pipe.text_encoder, "unet": pipe.unet, "vae": pipe.vae,
            "scheduler_config": pipe.scheduler.config}  # fmt: skip


def load_vae_file(path: Path, dtype: torch.dtype) -> AutoencoderKL:
    """A VAE as one .safetensors file, in the original layout or with diffusers' names; a checkpoint's VAE, too.

    Its config is Stable Diffusion 1.x's, but for a config.json beside it.

    Raises:
        ModelFileError: the file holds no VAE, or not all of one.
    """
    state = load_file(path)
    if any(key.startswith(VAE_PREFIX) for key in state):
        state = {key.removeprefix(VAE_PREFIX): w for key, w in state.items() if key.startswith(VAE_PREFIX)}
    if "decoder.conv_in.weight" not in state or "encoder.conv_in.weight" not in state:
        raise ModelFileError(f"--vae {path} holds no VAE; it is {kind_of_weights(state) or 'of an unknown kind'}")
    beside = path.with_name("config.json")
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.json"
        given = (
            beside.read_text(encoding="utf-8")
            if beside.is_file()
            else json.dumps({"_class_name": "AutoencoderKL", **VAE})
        )
        config.write_text(given, encoding="utf-8")
        if any(key.startswith(("decoder.up_blocks.", "encoder.down_blocks.")) for key in state):
            save_file(state, Path(scratch) / "diffusion_pytorch_model.safetensors")
            vae, said = AutoencoderKL.from_pretrained(scratch, dtype=dtype, output_loading_info=True)
            missing = sorted(said["missing_keys"])
        else:
            vae = AutoencoderKL.from_single_file(state, config=scratch, local_files_only=True, torch_dtype=dtype)
            missing = [key for key, weight in vae.named_parameters() if weight.is_meta]
    if missing:
        raise ModelFileError(
            f"--vae {path}: {len(missing)} weights are missing in it, such as {missing[0]}; download or copy it again"
        )
    return vae


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
