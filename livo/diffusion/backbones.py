"""Backbones: latent diffusion models, from the bundled miniature over Stable Diffusion 1.x to SDXL and PixArt.

They come as a folder in diffusers format, from the hub in the same format, or (Stable Diffusion 1.x) as one
.safetensors file. Which kind a folder holds stands in its model_index.json.

Nothing downstream asks which one it has: sizes and defaults are read from the `Backbone`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtTransformer2DModel, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)
from transformers.utils import logging as transformers_logging

from livo.diffusion.denoisers import StableDiffusionUNet, denoiser_of
from livo.diffusion.hub import HubError, fetch, is_hub_id
from livo.diffusion.single_file import load_single_file
from livo.diffusion.text_encoders import ClipText, PromptEncoder, T5Text, TwoClipTexts, tokenize

ASSETS = Path(__file__).parents[2] / "assets"
DOWNLOADED = Path("runs") / "backbones"
"""What is made for models from the hub goes here, not into the hub's cache."""
HUB_FILES = (
    "model_index.json", "tokenizer/*", "tokenizer_2/*", "scheduler/*", "*/config.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors", "*/*.index.json", "*/*-of-*.safetensors",
)  # fmt: skip
"""What is downloaded of a model: weights once, not in every precision and format that a repository has."""
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
CLIP, T5 = (
    ("tokenizer.json", "vocab.json"),
    ("tokenizer.json", "spiece.model"),
)  # one of these is a tokenizer's vocabulary
STABLE_DIFFUSION: dict[str, Any] = {
    "tokenizer": CLIP, "text_encoder": CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL,
}  # fmt: skip
PIXART: dict[str, Any] = {
    "tokenizer": T5,
    "text_encoder": T5EncoderModel,
    "transformer": PixArtTransformer2DModel,
    "vae": AutoencoderKL,
}
KINDS = {
    "StableDiffusionPipeline": STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": {"tokenizer_2": CLIP, "text_encoder_2": CLIPTextModelWithProjection}
    | STABLE_DIFFUSION,
    "PixArtAlphaPipeline": PIXART,
    "PixArtSigmaPipeline": PIXART,
}
"""By the class in model_index.json.

Subfolders, each with its network's class or its tokenizer's vocabulary files; the VAE last.
"""
T5_TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}
"""Tokens that its texts are cut to, as the pipelines have it."""


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
        folder: where its judge and what its methods need lie. For a model in diffusers format that is its own folder;
            for one from the hub `runs/backbones/<owner>--<name>`, for a single file the folder of the same name
            beside it: these need not be there.
        tokenizer, text_encoder, unet, vae: its parts, on one device in one dtype. `unet` is the denoiser, also where
            that is PixArt's transformer.
        scheduler_config: the stored scheduler's config, with its class under `_class_name`.
        defaults: sampling options that suit it.
        tokenizer_2, text_encoder_2: SDXL's second pair; None elsewhere.
        force_zeros_for_empty_prompt: SDXL reads the empty prompt as zeros.
    """

    name: str
    folder: Path
    tokenizer: PreTrainedTokenizerBase
    text_encoder: CLIPTextModel | T5EncoderModel
    unet: UNet2DConditionModel | PixArtTransformer2DModel
    vae: AutoencoderKL
    scheduler_config: Mapping[str, Any]
    defaults: Defaults
    tokenizer_2: CLIPTokenizer | None = None
    text_encoder_2: CLIPTextModelWithProjection | None = None
    force_zeros_for_empty_prompt: bool = False

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def kind(self) -> str:
        """What people call its denoiser, such as "Stable Diffusion 1.x"."""
        return denoiser_of(self.unet).title

    @property
    def vae_scale(self) -> int:
        """Image pixels per latent pixel, along a side: 8 for Stable Diffusion."""
        return vae_scale(self.vae)

    @cached_property
    def text(self) -> PromptEncoder:
        """How its prompts are read."""
        if isinstance(self.text_encoder, T5EncoderModel):
            return T5Text(self.tokenizer, self.text_encoder)
        first = ClipText(self.tokenizer, self.text_encoder)
        if self.text_encoder_2 is None:
            return first
        return TwoClipTexts(first, self.tokenizer_2, self.text_encoder_2, self.force_zeros_for_empty_prompt)

    @property
    def max_length(self) -> int:
        """Tokens of an encoded prompt: 77; of PixArt's 120 or 300, at the most."""
        return self.text.max_length

    def tokenize(self, text: str) -> Tensor:
        """(1, 77) ids on the backbone's device: padded, or cut at the end with the end-of-text token kept."""
        return tokenize(self.tokenizer, text, self.max_length).to(self.device)


def vae_scale(vae: AutoencoderKL) -> int:
    """Image pixels per latent pixel, along a side."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def find_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; without one a CUDA device where there is one, else the CPU.

    Raises:
        BackboneError: this machine has no such device.
    """
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, True):
        raise BackboneError(
            f"torch finds no {device.type} device here: give --device cpu, or install torch for your GPU"
        )
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
            remedy = (
                "give 'miniature', a folder in diffusers format, a .safetensors file, or a hub id such as owner/name"
            )
        raise BackboneError(f"there is no backbone folder {folder}: {remedy}")

    else:
        remedy = "check the id and the network, or give a folder"
    source = folder if is_folder or is_file else Path(name)
    try:
        with _quiet_loaders():
            if not (is_folder or is_file):
                source = fetch(name, HUB_FILES)
                _check_files(source, remedy)
            parts = _single_file(source, dtype) if is_file else _load_parts(source, dtype)
    except BackboneError:
        raise
    except HubError as error:
        raise BackboneError(f"backbone {error}: {remedy}") from error
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, SafetensorError) as error:
        raise BackboneError(f"backbone {source} does not load ({_first_line(error)}): {remedy}") from error

    denoiser, defaults = denoiser_of(parts["unet"]), DEFAULTS.get(name)
    if defaults is None:
        side = denoiser.net.config.sample_size * vae_scale(parts["vae"])
        defaults = Defaults(denoiser.num_inference_steps, denoiser.guidance_scale, height=side, width=side)
    if not is_folder:
        folder = folder.with_suffix("") if is_file else DOWNLOADED / name.partition("@")[0].replace("/", "--")
    backbone = Backbone(name, folder, defaults=defaults, **parts)
    for what, given, read in (
        ("width", backbone.text.width, denoiser.text_width),
        ("pooled width", backbone.text.pooled_width, denoiser.pooled_width),
    ):  # fmt: skip
        if given != read:
            raise BackboneError(
                f"backbone {source} does not fit together: the text encoder gives {what} {given}, the denoiser reads "
                f"{read}"
            )
    for part in (*backbone.text.encoders.values(), denoiser.net, backbone.vae):
        part.eval().requires_grad_(False).to(device)
    if device.type == "cuda":  # the layout of its fast convolutions; CPUs gain nothing by it
        for part in (denoiser.net, backbone.vae):
            part.to(memory_format=torch.channels_last)
    return backbone


def only_stable_diffusion(backbone: Backbone, what: str) -> Backbone:
    """The backbone, where it is a Stable Diffusion 1.x.

    Args:
        what: works with no other, such as "python -m train.dapt".

    Raises:
        BackboneError: it is of another kind.
    """
    if backbone.kind != StableDiffusionUNet.title:
        raise BackboneError(
            f"{what} works with {StableDiffusionUNet.title} only, and {backbone.name} is {backbone.kind}: it can be "
            "sampled from, "
            "and read edited weights and value encoders made elsewhere"
        )
    return backbone


def _single_file(source: Path, dtype: torch.dtype) -> dict[str, Any]:
    names = ("tokenizer", "text_encoder", "unet", "vae", "scheduler_config")
    return dict(zip(names, load_single_file(source, dtype), strict=True))


def _load_parts(source: Path, dtype: torch.dtype) -> dict[str, Any]:
    """`Backbone`'s fields of a folder in diffusers format."""
    index = _index(source)
    parts: dict[str, Any] = {}
    for name, wanted in _kind(source, index).items():
        if wanted in (CLIP, T5):
            parts[name] = (CLIPTokenizer if wanted is CLIP else AutoTokenizer).from_pretrained(source, subfolder=name)
            continue
        if wanted is AutoencoderKL:
            dtype = denoiser_of(parts["unet"]).vae_dtype(wanted.load_config(source, subfolder=name), dtype)
        parts["unet" if name == "transformer" else name] = wanted.from_pretrained(source, subfolder=name, dtype=dtype)
    if (most := T5_TOKENS.get(index.get("_class_name", ""))) is not None:
        parts["tokenizer"].model_max_length = most
    parts["force_zeros_for_empty_prompt"] = bool(index.get("force_zeros_for_empty_prompt", "tokenizer_2" in parts))
    return parts | {"scheduler_config": DPMSolverMultistepScheduler.load_config(source, subfolder="scheduler")}


def _index(folder: Path) -> dict[str, Any]:
    """model_index.json; empty where there is none, as older folders of Stable Diffusion have it."""
    path = folder / "model_index.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _kind(folder: Path, index: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `KINDS`.

    Variants of Stable Diffusion's pipeline, such as one that paints into masks, are read as itself.
    """
    name = index.get("_class_name", "StableDiffusionPipeline")
    if name not in KINDS and (name.startswith("StableDiffusionXL") or not (folder / "unet").is_dir()):
        raise BackboneError(f"{folder} holds a {name}, which cannot be run here: give one of {', '.join(KINDS)}")
    return KINDS.get(name, STABLE_DIFFUSION)


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

    def read(path: Path) -> None:
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BackboneError(f"{path} is missing: {remedy}") from None
        except (OSError, ValueError) as error:
            raise BackboneError(f"{path} cannot be read ({_first_line(error)}): {remedy}") from None

    if (folder / "model_index.json").is_file():
        read(folder / "model_index.json")
    kind = _kind(folder, _index(folder))
    for part, wanted in kind.items():
        read(folder / part / ("tokenizer_config.json" if wanted in (CLIP, T5) else "config.json"))
    read(folder / "scheduler" / "scheduler_config.json")
    for part, wanted in kind.items():
        if wanted not in (CLIP, T5):
            files = sorted((folder / part).glob("*.safetensors"))
            if not files and not any((folder / part).glob("*.bin")):
                raise BackboneError(f"{folder / part} holds no weights (*.safetensors): {remedy}")
            for path in files:
                if (wrong := check_safetensors(path)) is not None:
                    raise BackboneError(f"{path} cannot be read ({wrong}): {remedy}")
        # transformers takes a tokenizer without its vocabulary for one of two tokens, and says nothing.
        elif not any((there := folder / part / name).is_file() for name in wanted):
            raise BackboneError(f"{folder / part / 'tokenizer.json'} is missing: {remedy}")
        elif there.name == "spiece.model" and (
            lacking := [m for m in ("sentencepiece", "google.protobuf") if not _has(m)]
        ):
            way_out = "`pip install sentencepiece protobuf`"
            raise BackboneError(f"{there} is read by sentencepiece ({', '.join(lacking)} not installed): {way_out}")


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
