"""Stable Diffusion 1.x or 2.x as one .safetensors file in the original CompVis layout, without fetching anything.

diffusers converts U-Net and VAE; what it would fetch from the hub is put together here. Shapes and settings come from
the first of these that there is: a diffusers folder's configs around the file (`model_index.json` beside it, as in hub
repositories), the original `<stem>.yaml` beside it, Stable Diffusion's own. The tokenizer is CLIP's, built from the
vocabulary that `open_clip` brings along. 2.x is told by OpenCLIP's text encoder, of which it reads all layers but one.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from livo.diffusion.model_files import ModelFileError, kind_of_weights, other_work
from livo.inputs import load_yaml
from livo.types import InputError

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
UNET_2 = {"attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
"""What differs from these in Stable Diffusion 2.x."""
NOISIEST = 999
"""The timestep at which what a network predicts shows most: nearly nothing of a picture is left."""
TEXT = "cond_stage_model.transformer.text_model."
OPEN_TEXT = "cond_stage_model.model."
HEAD_WIDTH = 64
"""Of every attention head in CLIP's text encoders."""
UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."

OLD_PREFIXES = (
    (r"^(?:state_dict|module)\.(?=(?:model\.diffusion_model|first_stage_model|cond_stage_model)\.)", ""),
    (r"^(cond_stage_model\.transformer\.)(?=embeddings\.|encoder\.|final_layer_norm\.)", r"\1text_model."),
)  # fmt: skip
"""Names of older files and merges, and what makes them today's: a wrapper's prefix, a text model without its own."""
OPEN_CLIP_NAMES = (
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "embeddings.token_embedding."), (r"^ln_final\.", "final_layer_norm."),
    (r"^transformer\.resblocks\.", "encoder.layers."), (r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"\.attn\.", ".self_attn."), (r"\.c_fc\.", ".fc1."), (r"\.c_proj\.", ".fc2."),
)  # fmt: skip
"""Of OpenCLIP's text encoder, and what makes them those of transformers."""


def load_single_file(path: Path, dtype: torch.dtype, vae: AutoencoderKL | None = None) -> dict[str, Any]:
    """`Backbone`'s fields of a checkpoint: tokenizer, text encoder, U-Net, VAE and the scheduler's config.

    Args:
        vae: in place of the file's own, which may then be missing.

    Raises:
        ModelFileError: the file is no Stable Diffusion 1.x or 2.x checkpoint in the original layout; the message says
            what it is, or what is missing in it.
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
            "1.x or 2.x checkpoint, or a folder in diffusers format"
        )
    if vae is None and not any(name.startswith(VAE_PREFIX) for name in names):
        raise ModelFileError(f"{path} holds no VAE ({VAE_PREFIX}*): give one with --vae FOLDER_OR_FILE")
    if any("cond_proj" in name for name in names):
        raise ModelFileError(f"{path} is a consistency model in one file: give it as a folder in diffusers format")
    if not {f"{TEXT}embeddings.token_embedding.weight", f"{OPEN_TEXT}token_embedding.weight"} & names:
        raise ModelFileError(
            f"{path} holds no text encoder ({TEXT}* or {OPEN_TEXT}*), so it is no Stable Diffusion checkpoint: give a "
            "complete one"
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
    beside, yaml_path = path.parent / "model_index.json", path.with_suffix(".yaml")
    given = _yaml_params(yaml_path) if yaml_path.is_file() else {}
    with safe_open(path_read, "pt") as file:
        keys = set(file.keys())
        is_2 = f"{OPEN_TEXT}token_embedding.weight" in keys
        state = _open_clip_state(file, keys) if is_2 else {}
        text_config = _open_clip_config(state) if is_2 else _text_config(file, keys)
        _check_channels(path, file, keys)
    prediction = "v_prediction" if given.get("parameterization") == "v" else "epsilon"
    unet = UNET | {"cross_attention_dim": text_config["hidden_size"]} | (UNET_2 if is_2 else {})
    config = path.parent if beside.is_file() else _own_configs(scratch, text_config, unet, prediction)
    own: dict[str, Any] = {} if vae is None else {"vae": vae}
    if not (config / "tokenizer").is_dir():
        own["tokenizer"] = clip_tokenizer(pad="!" if is_2 else None)
    if is_2:
        own["text_encoder"] = _open_clip_text(path, config / "text_encoder", state, dtype)
    try:
        pipe = StableDiffusionPipeline.from_single_file(
            str(path_read), config=str(config), local_files_only=True, torch_dtype=dtype, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False, **own,
            **({"original_config": str(yaml_path)} if given else {}),
        )  # fmt: skip
    except RuntimeError as error:
        if "meta tensor" not in str(error):  # diffusers leaves what it does not find there
            raise
        raise ModelFileError(
            f"{path} does not load (weights of the U-Net or of the VAE are missing in it): download or copy it again"
        ) from error
    if missing := [key for key, weight in pipe.text_encoder.named_parameters() if weight.is_meta]:
        raise _text_is_incomplete(path, missing)
    scheduler_config = dict(pipe.scheduler.config)
    if is_2 and not given and not beside.is_file():
        # Files of both kinds look alike; 2.x predicts v at 768 pixels and noise at 512.
        texts = pipe.text_encoder(pipe.tokenizer("", padding="max_length", return_tensors="pt").input_ids)[0]
        scheduler_config["prediction_type"] = told = prediction_of(pipe.unet, texts)
        pipe.unet.register_to_config(sample_size=96 if told == "v_prediction" else 64)
    return {"tokenizer": pipe.tokenizer, "text_encoder": pipe.text_encoder, "unet": pipe.unet, "vae": pipe.vae,
            "scheduler_config": scheduler_config}  # fmt: skip


def _check_channels(path: Path, file: Any, keys: set[str]) -> None:
    """Told by the two layers that say so, before anything else of another model fails to fit."""
    shapes = {
        name: file.get_slice(name).get_shape()
        for name in (f"{UNET_PREFIX}input_blocks.0.0.weight", f"{VAE_PREFIX}post_quant_conv.weight")
        if name in keys
    }
    if len(shapes) == 2:
        (_, channels, *_), (_, latent, *_) = shapes.values()
        if channels != latent:
            raise ModelFileError(f"{path} {other_work(channels, latent)}")


def _text_is_incomplete(path: Path, missing: Sequence[str]) -> ModelFileError:
    return ModelFileError(
        f"{path} does not load ({len(missing)} weights of the text encoder are missing in it, such as {missing[0]}): "
        "download or copy it again"
    )


def _yaml_params(path: Path) -> dict[str, Any]:
    """`model.params` of an original config.

    Raises:
        ModelFileError: it has none.
    """
    try:
        found = load_yaml(path)
    except InputError as error:
        raise ModelFileError(str(error)) from error
    for key in ("model", "params"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not found:
        raise ModelFileError(f"{path} holds no model.params: give the yaml that belongs to the file, or remove it")
    return dict(found)


@torch.inference_mode()
def prediction_of(unet: UNet2DConditionModel, prompt_embeds: Tensor) -> str:
    """Whether a U-Net predicts noise ("epsilon") or v, told from what it does and not from its file.

    At the noisiest timestep x_t is noise, nearly. A network that predicts noise gives it back; v there is minus the
    picture, which the noise says nothing of. The correlation with x_t is 0.999 for the bundled model.

    Args:
        prompt_embeds: (1, L, D) of any text.
    """
    shape = (1, unet.config.in_channels, 32, 32)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(unet.device, unet.dtype)
    made = unet(noise, torch.tensor(NOISIEST), prompt_embeds.to(unet.dtype), return_dict=False)[0]
    alike = torch.corrcoef(torch.stack([noise.flatten(), made.flatten()]).float())[0, 1]
    return "epsilon" if alike > 0.5 else "v_prediction"


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


def clip_tokenizer(pad: str | None = None) -> CLIPTokenizer:
    """CLIP's tokenizer, 49,408 entries, as Stable Diffusion 1.x has it.

    Args:
        pad: what texts are filled up with, in place of the end-of-text token; "!" of 2.x.
    """
    import open_clip  # only here: with torchvision it takes seconds

    source = open_clip.SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(word, word): number for word, number in source.encoder.items()}
    padding = {} if pad is None else {"pad_token": pad}
    return CLIPTokenizer(vocab=vocabulary, merges=list(source.bpe_ranks), model_max_length=77, **padding)


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


def _open_clip_state(file: Any, keys: set[str]) -> dict[str, Tensor]:
    """OpenCLIP's text encoder under transformers' names, without the last block, which Stable Diffusion 2.x leaves."""
    blocks = {
        int(found[1])
        for key in keys
        if (found := re.match(rf"{re.escape(OPEN_TEXT)}transformer\.resblocks\.(\d+)\.", key))
    }
    last, state = max(blocks, default=0), dict[str, Tensor]()
    for key in sorted(key for key in keys if key.startswith(OPEN_TEXT)):
        name = key.removeprefix(OPEN_TEXT)
        if name in ("text_projection", "logit_scale", "attn_mask") or name.startswith(f"transformer.resblocks.{last}."):
            continue
        for theirs, own in OPEN_CLIP_NAMES:
            name = re.sub(theirs, own, name)
        weight = file.get_tensor(key)
        if (found := re.fullmatch(r"(.*\.self_attn\.)in_proj_(weight|bias)", name)) is None:
            state[name] = weight
            continue
        for part, rows in zip("qkv", weight.chunk(3), strict=True):
            state[f"{found[1]}{part}_proj.{found[2]}"] = rows.contiguous()
    return state


def _open_clip_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sizes of OpenCLIP's text encoder, read from its weights."""
    vocabulary, width = state["embeddings.token_embedding.weight"].shape
    layers = {key.split(".")[2] for key in state if key.startswith("encoder.layers.")}
    inner = next((len(weight) for key, weight in state.items() if key.endswith(".fc1.bias")), 4 * width)
    positions = len(state.get("embeddings.position_embedding.weight", range(77)))
    return {
        "model_type": "clip_text_model", "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": len(layers), "num_attention_heads": max(1, width // HEAD_WIDTH),
        "max_position_embeddings": positions, "hidden_act": "gelu", "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1, "pad_token_id": 0,
    }  # fmt: skip


def _open_clip_text(path: Path, config: Path, state: Mapping[str, Tensor], dtype: torch.dtype) -> CLIPTextModel:
    encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(config))
    if missing := sorted(encoder.state_dict().keys() - state.keys()):
        raise _text_is_incomplete(path, missing)
    encoder.load_state_dict(dict(state))
    return encoder.to(dtype)


def _own_configs(folder: Path, text_config: Mapping[str, Any], unet: Mapping[str, Any], prediction: str) -> Path:
    """Writes the configs of Stable Diffusion as a diffusers folder without weights."""
    index = {
        "_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "scheduler": ["diffusers", SCHEDULER["_class_name"]],
        "safety_checker": [None, None], "feature_extractor": [None, None],
    }  # fmt: skip
    files = {
        "model_index.json": index,
        "unet/config.json": {"_class_name": "UNet2DConditionModel", **unet},
        "vae/config.json": {"_class_name": "AutoencoderKL", **VAE},
        "text_encoder/config.json": text_config,
        "scheduler/scheduler_config.json": SCHEDULER | {"prediction_type": prediction},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder
