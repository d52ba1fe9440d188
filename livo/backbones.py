"""Backbones: latent diffusion models, from the bundled miniature to Stable Diffusion 1.x.

They come as a folder in diffusers format, from the hub in the same format, or as one .safetensors file.

Nothing downstream asks which one it has: sizes and defaults are read from the `Backbone`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from livo.hub import HubError, fetch, is_hub_id
from livo.single_file import Parts, load_single_file

ASSETS = Path(__file__).parent.parent / "assets"
DOWNLOADED = Path("runs") / "backbones"
"""What is made for models from the hub goes here, not into the hub's cache."""
HUB_FILES = (
    "tokenizer/*", "scheduler/*", "*/config.json", "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors", "*/*.index.json", "*/*-of-*.safetensors",
)  # fmt: skip
"""What is downloaded of a model: weights once, not in every precision and format that a repository has."""
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
PARTS = {  # subfolder -> its config file
    "tokenizer": "tokenizer_config.json",
    "text_encoder": "config.json",
    "unet": "config.json",
    "vae": "config.json",
    "scheduler": "scheduler_config.json",
}


class BackboneError(RuntimeError):
    """A backbone's files are missing or broken; the message names the file and the way out."""


@dataclass(frozen=True)
class Defaults:
    """What to sample with where a person does not say."""

    num_inference_steps: int
    guidance_scale: float
    height: int
    width: int


DEFAULTS = {"miniature": Defaults(num_inference_steps=12, guidance_scale=2.0, height=64, width=64)}


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded model, in eval mode and frozen.

    Attributes:
        name: as given to `load_backbone`.
        folder: where its judge and what its methods need lie. For a model in diffusers format that is its own folder; for
            one from the hub `runs/backbones/<owner>--<name>`, for a single file the folder of the same name beside it:
            these need not be there.
        tokenizer, text_encoder, unet, vae: its parts, on one device in one dtype.
        scheduler_config: the stored scheduler's config, with its class under `_class_name`.
        defaults: sampling options that suit it.
    """

    name: str
    folder: Path
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler_config: Mapping[str, Any]
    defaults: Defaults

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def vae_scale(self) -> int:
        """Image pixels per latent pixel, along a side: 8 for Stable Diffusion."""
        return vae_scale(self.vae)

    @property
    def max_length(self) -> int:
        """Tokens of an encoded prompt: 77."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    def tokenize(self, text: str) -> Tensor:
        """(1, 77) ids on the backbone's device: padded, or cut at the end with the end-of-text token kept."""
        return tokenize(self.tokenizer, text, self.max_length).to(self.device)


def tokenize(tokenizer: CLIPTokenizer, text: str, max_length: int) -> Tensor:
    """(1, max_length) ids of one text, padded, or cut at the end with the end-of-text token kept."""
    encoded = tokenizer(text, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt")
    return encoded.input_ids


def vae_scale(vae: AutoencoderKL) -> int:
    """Image pixels per latent pixel, along a side."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def find_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; without one a CUDA device where there is one, else the CPU.

    Raises:
        BackboneError: this machine has no such device.
    """
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(device.type, lambda: True)
    if not there():
        raise BackboneError(f"torch finds no {device.type} device here: give --device cpu, or install torch for your GPU")
    return device


def load_backbone(
    name: str = "miniature", device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
) -> Backbone:
    """Loads a backbone.

    Args:
        name: "miniature", the bundled model; or a folder in diffusers format; or a .safetensors file in the original
            layout of Stable Diffusion 1.x; or a hub id such as `stable-diffusion-v1-5/stable-diffusion-v1-5`, with
            `@` and a revision behind it if wanted.
        device: as `find_device`.
        dtype: such as torch.bfloat16 or "bfloat16"; without one float16 on CUDA, else float32 (float16 files are
            widened: CPUs compute slowly in it).

    Raises:
        BackboneError: files are missing or broken, the parts do not fit each other, or the device is not there.
    """
    device = find_device(device)
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    folder = ASSETS / name if name == "miniature" else Path(name)
    if name == "miniature":
        remedy = "`git checkout -- assets/miniature` restores it, `python -m train.miniature` builds it anew"
    else:
        remedy = f"copy {name} again"
    is_folder, is_file = folder.is_dir(), folder.suffix == ".safetensors"
    if is_folder:
        _check_files(folder, remedy)
    elif is_file:
        if (wrong := check_safetensors(folder)) is not None:
            raise BackboneError(f"{folder} cannot be read ({wrong}): {remedy}")
    elif folder.suffix in PICKLES:
        raise BackboneError(f"{folder} may run code when it is read: convert it to .safetensors, and give that")
    elif name == "miniature" or not is_hub_id(name):
        if name != "miniature":
            remedy = "give 'miniature', a folder in diffusers format, a .safetensors file, or a hub id such as owner/name"
        raise BackboneError(f"there is no backbone folder {folder}: {remedy}")

    else:
        remedy = "check the id and the network, or give a folder"
    source = folder if is_folder or is_file else Path(name)
    try:
        with _quiet_loaders():
            if not (is_folder or is_file):
                source = fetch(name, HUB_FILES)
                _check_files(source, remedy)
            load = load_single_file if is_file else _load_parts
            tokenizer, text_encoder, unet, vae, scheduler_config = load(source, dtype)
    except BackboneError:
        raise
    except HubError as error:
        raise BackboneError(f"backbone {error}: {remedy}") from error
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, SafetensorError) as error:
        raise BackboneError(f"backbone {source} does not load ({_first_line(error)}): {remedy}") from error

    width, wanted = text_encoder.config.hidden_size, unet.config.cross_attention_dim
    if width != wanted:
        raise BackboneError(
            f"backbone {source} does not fit together: the text encoder gives width {width}, the U-Net reads {wanted}"
        )
    for part in (text_encoder, unet, vae):
        part.eval().requires_grad_(False).to(device)
    if device.type == "cuda":  # the layout of its fast convolutions; CPUs gain nothing by it
        for part in (unet, vae):
            part.to(memory_format=torch.channels_last)
    side = unet.config.sample_size * vae_scale(vae)
    defaults = DEFAULTS.get(name, Defaults(num_inference_steps=25, guidance_scale=7.5, height=side, width=side))
    if not is_folder:
        folder = folder.with_suffix("") if is_file else DOWNLOADED / name.partition("@")[0].replace("/", "--")
    return Backbone(name, folder, tokenizer, text_encoder, unet, vae, scheduler_config, defaults)


def _load_parts(source: Path, dtype: torch.dtype) -> Parts:
    """Of a folder in diffusers format."""
    return (
        CLIPTokenizer.from_pretrained(source, subfolder="tokenizer"),
        CLIPTextModel.from_pretrained(source, subfolder="text_encoder", dtype=dtype),
        UNet2DConditionModel.from_pretrained(source, subfolder="unet", dtype=dtype),
        AutoencoderKL.from_pretrained(source, subfolder="vae", dtype=dtype),
        DPMSolverMultistepScheduler.load_config(source, subfolder="scheduler"),
    )


def check_safetensors(path: Path) -> str | None:
    """What is wrong with a safetensors file, in one line, or None. Reads the header only."""
    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (OSError, SafetensorError) as error:
        return _first_line(error)
    return None


@contextmanager
def _quiet_loaders() -> Iterator[None]:
    """No progress bar of a second's loading, no warning that `latent_rgb` in the VAE's config is not diffusers' own."""
    verbosity, libraries = diffusers_logging.get_verbosity(), (diffusers_logging, transformers_logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    diffusers_logging.set_verbosity_error()
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        for library, bar in zip(libraries, shown, strict=True):
            if bar:
                library.enable_progress_bar()


def _check_files(folder: Path, remedy: str) -> None:
    """Looks before loading, because the loaders name neither the file nor the way out."""
    for part, config in PARTS.items():
        path = folder / part / config
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BackboneError(f"{path} is missing: {remedy}") from None
        except (OSError, ValueError) as error:
            raise BackboneError(f"{path} cannot be read ({_first_line(error)}): {remedy}") from None
    # transformers takes a tokenizer without its vocabulary for one of two tokens, and says nothing.
    if not any((folder / "tokenizer" / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise BackboneError(f"{folder / 'tokenizer' / 'tokenizer.json'} is missing: {remedy}")
    for part in ("text_encoder", "unet", "vae"):
        files = sorted((folder / part).glob("*.safetensors"))
        if not files and not any((folder / part).glob("*.bin")):
            raise BackboneError(f"{folder / part} holds no weights (*.safetensors): {remedy}")
        for path in files:
            if (wrong := check_safetensors(path)) is not None:
                raise BackboneError(f"{path} cannot be read ({wrong}): {remedy}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
