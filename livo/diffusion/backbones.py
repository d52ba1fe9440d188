"""Backbones: latent diffusion models, from the bundled miniature over Stable Diffusion to SDXL, PixArt, SD 3 and Flux.

They come as a folder in diffusers format, from the hub in the same format, or (Stable Diffusion 1.x and 2.x) as one
.safetensors file. Which kind a folder holds stands in its model_index.json. Whatever is wrong with one is told in one
line: `load_backbone` is the boundary behind which every failure has a reason and a way out.

Nothing downstream asks which one it has: sizes and defaults are read from the `Backbone`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PixArtTransformer2DModel,
    PNDMScheduler,
    SchedulerMixin,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.utils import logging as diffusers_logging
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

from livo.diffusion.denoiser import NETWORKS, Denoiser, DenoiserNet, few_step_solver
from livo.diffusion.denoisers import StableDiffusionUNet, denoiser_of
from livo.diffusion.hub import HubError, fetch, is_hub_id
from livo.diffusion.joint_texts import ClipsAndT5, ProjectedClip, T5AndPooledClip
from livo.diffusion.model_files import (
    ModelFileError,
    check_weights,
    choose_weights,
    first_line,
    hub_files,
    listing,
    not_finite,
    other_work,
    read_json,
    staged,
)
from livo.diffusion.precision import fastest_on_cpu
from livo.diffusion.single_file import load_single_file, load_vae_file
from livo.diffusion.text_encoders import ClipText, PromptEncoder, T5Text, TwoClipTexts, tokenize

ASSETS = Path(__file__).parents[2] / "assets"
DOWNLOADED = Path("runs") / "backbones"
"""What is made for models from the hub goes here, not into the hub's cache."""
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
CLIP, T5 = ("tokenizer.json", "vocab.json"), ("tokenizer.json", "spiece.model")
"""One of these is a tokenizer's vocabulary."""
STABLE_DIFFUSION: dict[str, Any] = {
    "tokenizer": CLIP, "text_encoder": CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL,
}  # fmt: skip
PIXART: dict[str, Any] = {
    "tokenizer": T5, "text_encoder": T5EncoderModel, "transformer": PixArtTransformer2DModel, "vae": AutoencoderKL,
}  # fmt: skip
SECOND_CLIP: dict[str, Any] = {"tokenizer_2": CLIP, "text_encoder_2": CLIPTextModelWithProjection}
STABLE_DIFFUSION_3: dict[str, Any] = {
    "tokenizer": CLIP, "text_encoder": CLIPTextModelWithProjection, **SECOND_CLIP,
    "tokenizer_3": T5, "text_encoder_3": T5EncoderModel, "transformer": SD3Transformer2DModel, "vae": AutoencoderKL,
}  # fmt: skip
FLUX: dict[str, Any] = {
    "tokenizer": CLIP, "text_encoder": CLIPTextModel, "tokenizer_2": T5, "text_encoder_2": T5EncoderModel,
    "transformer": FluxTransformer2DModel, "vae": AutoencoderKL,
}  # fmt: skip
KINDS = {
    "StableDiffusionPipeline": STABLE_DIFFUSION,
    "LatentConsistencyModelPipeline": STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": SECOND_CLIP | STABLE_DIFFUSION,
    "PixArtAlphaPipeline": PIXART,
    "PixArtSigmaPipeline": PIXART,
    "StableDiffusion3Pipeline": STABLE_DIFFUSION_3,
    "FluxPipeline": FLUX,
}
"""By the class in model_index.json: subfolders, each with its network's class or a tokenizer's vocabulary; VAE last."""
PARTS = tuple(dict.fromkeys(part for kind in KINDS.values() for part in kind))
OPTIONAL = ("tokenizer_3", "text_encoder_3")
"""Parts that model_index.json may name null."""
WITHOUT_T5 = 'to go without T5, write [null, null] for "tokenizer_3" and "text_encoder_3" in model_index.json'
T5_TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}
"""Tokens that its texts are cut to, as the pipelines have it."""
SD3_T5_TOKENS, FLUX_T5_TOKENS, SCHNELL_T5_TOKENS = 256, 512, 256
"""Tokens that T5's texts are padded to or cut to. Schnell, which reads no guidance scale, was trained on half as many;
its pipeline has to be told so."""
FEW_STEPS = 4
"""Of models that were distilled to make pictures in one to eight."""
FLOW = FlowMatchEulerDiscreteScheduler.__name__
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SCHEDULERS: tuple[type[SchedulerMixin], ...] = (
    DDIMScheduler, DDPMScheduler, DEISMultistepScheduler, DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler, LCMScheduler, LMSDiscreteScheduler, PNDMScheduler, UniPCMultistepScheduler,
)  # fmt: skip
"""Those that `--scheduler` takes; each is held against diffusers' pipeline."""
STABLE_DIFFUSION_1, STABLE_DIFFUSION_2 = StableDiffusionUNet.title, "Stable Diffusion 2.x"


class BackboneError(RuntimeError):
    """A backbone's files are missing or broken; the message names the file and the way out."""


@dataclass(frozen=True)
class Defaults:
    """What to sample with where a person does not say.

    Attributes:
        quick_steps: few steps that are enough to look at; None where nobody has measured how few are.
    """

    num_inference_steps: int
    guidance_scale: float
    height: int
    width: int
    quick_steps: int | None = None


NO_MODEL = Defaults(num_inference_steps=12, guidance_scale=2.0, height=512, width=512)
"""Where none could be loaded."""
DRAWN_WORLD: dict[str, Any] = {"num_inference_steps": 12, "guidance_scale": 2.0, "quick_steps": 6}
"""`train.sampler` measures both numbers of steps: the quick ones are the fewest that its rule lets pass for the solver
that is sampled with, and a test holds them against its file."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded model, in eval mode and frozen.

    Attributes:
        name: as given to `load_backbone`.
        folder: where its judge and what its methods need lie. For a model in diffusers format that is its own folder;
            for one from the hub `runs/backbones/<owner>--<name>`, for a single file the folder of the same name beside
            it: these need not be there.
        tokenizer, text_encoder, unet, vae: its parts, on one device in one dtype. `unet` is the denoiser, also where
            that is a transformer.
        scheduler_config: the stored scheduler's config, with its class under `_class_name`.
        defaults: sampling options that suit it.
        tokenizer_2, text_encoder_2: the second pair of SDXL, Stable Diffusion 3 and Flux; None elsewhere.
        force_zeros_for_empty_prompt: SDXL reads the empty prompt as zeros.
        tokenizer_3, text_encoder_3: Stable Diffusion 3's T5, where it comes with it.
    """

    name: str
    folder: Path
    tokenizer: PreTrainedTokenizerBase
    text_encoder: CLIPTextModel | CLIPTextModelWithProjection | T5EncoderModel
    unet: DenoiserNet
    vae: AutoencoderKL
    scheduler_config: Mapping[str, Any]
    defaults: Defaults
    tokenizer_2: PreTrainedTokenizerBase | None = None
    text_encoder_2: CLIPTextModelWithProjection | T5EncoderModel | None = None
    force_zeros_for_empty_prompt: bool = False
    tokenizer_3: PreTrainedTokenizerBase | None = None
    text_encoder_3: T5EncoderModel | None = None

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def noise_dtype(self) -> torch.dtype:
        """In which its noise is drawn and its latents are kept; noise drawn in another is other noise.

        On a CPU at least float32, so that a seed is the same picture whatever precision computes it; on a GPU the
        denoiser's own, as diffusers' pipelines have it.
        """
        return torch.promote_types(self.dtype, torch.float32) if self.device.type == "cpu" else self.dtype

    @property
    def kind(self) -> str:
        """What people call it, such as "Stable Diffusion 1.x".

        2.x has the same U-Net with wider texts, and most of it predicts v.
        """
        title, denoiser = denoiser_of(self.unet).title, denoiser_of(self.unet)
        is_2 = denoiser.text_width == 1024 or self.scheduler_config.get("prediction_type") == "v_prediction"
        return STABLE_DIFFUSION_2 if title == STABLE_DIFFUSION_1 and is_2 else title

    @property
    def sampled_as(self) -> str:
        """Of a model that was distilled for a few steps, how it is sampled unless asked otherwise; else empty."""
        if (solver := few_step_solver(self.scheduler_config)) is None:
            return ""
        d, reads = self.defaults, denoiser_of(self.unet).guides_itself
        guidance = f"a guidance scale of {d.guidance_scale:g}, which the network reads" if reads else "no guidance"
        return (
            f"this model was made for few steps, as its scheduler's config says: unless asked otherwise it is sampled "
            f"in {d.num_inference_steps} steps by {solver.__name__} with {guidance}"
        )

    @property
    def vae_scale(self) -> int:
        """Image pixels per latent pixel, along a side: 8 for Stable Diffusion."""
        return vae_scale(self.vae)

    @cached_property
    def text(self) -> PromptEncoder:
        """How its prompts are read."""
        if isinstance(self.text_encoder, T5EncoderModel):
            return T5Text(self.tokenizer, self.text_encoder)
        if isinstance(self.unet, SD3Transformer2DModel):
            clips = (
                ProjectedClip(self.tokenizer, self.text_encoder),
                ProjectedClip(self.tokenizer_2, self.text_encoder_2),
            )
            t5 = None if self.text_encoder_3 is None else (self.tokenizer_3, self.text_encoder_3)
            return ClipsAndT5(*clips, t5, denoiser_of(self.unet).text_width, SD3_T5_TOKENS)
        if isinstance(self.unet, FluxTransformer2DModel):
            clip = ClipText(self.tokenizer, self.text_encoder)
            return T5AndPooledClip(clip, self.tokenizer_2, self.text_encoder_2)
        first = ClipText(self.tokenizer, self.text_encoder)
        if self.text_encoder_2 is None:
            return first
        return TwoClipTexts(first, self.tokenizer_2, self.text_encoder_2, self.force_zeros_for_empty_prompt)

    @property
    def max_length(self) -> int:
        """Tokens of an encoded prompt: 77; at the most 120 or 300 of PixArt's; Stable Diffusion 3's 333, Flux's 512."""
        return self.text.max_length

    def tokenize(self, text: str) -> Tensor:
        """(1, 77) ids on the backbone's device: padded, or cut at the end with the end-of-text token kept."""
        return tokenize(self.tokenizer, text, self.max_length).to(self.device)


def vae_scale(vae: AutoencoderKL) -> int:
    """Image pixels per latent pixel, along a side."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def find_scheduler(name: str) -> type[SchedulerMixin]:
    """diffusers' scheduler of that name, with or without its "Scheduler": a solver for models that predict noise or v.

    Raises:
        BackboneError: there is none; the message lists them.

    Example:
        >>> find_scheduler("DDIM").__name__
        'DDIMScheduler'
    """
    known = {scheduler.__name__: scheduler for scheduler in SCHEDULERS}
    lower = {key.lower(): scheduler for key, scheduler in known.items()}
    lower |= {key.removesuffix("scheduler"): scheduler for key, scheduler in lower.items()}
    if name.lower() not in lower:
        raise BackboneError(f"no scheduler {name!r} is known here; there are: {', '.join(known)}")
    return lower[name.lower()]


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


def find_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype | None:
    """The precision of that name; None where the device and the model decide. "auto" is measured on a CPU."""
    if name == "auto":
        return fastest_on_cpu() if device.type == "cpu" else None
    return getattr(torch, name) if isinstance(name, str) else name


def load_backbone(
    name: str = "miniature",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    vae: str | None = None,
) -> Backbone:
    """Loads a backbone.

    Of each part one set of weights is read: .safetensors before .bin, the plain files before a variant such as fp16;
    names that begin with a dot are no weights, and nothing in a .bin is run.

    Args:
        name: "miniature", the bundled model; or a folder in diffusers format; or a .safetensors file in the original
            layout of Stable Diffusion 1.x or 2.x; or a hub id such as `stable-diffusion-v1-5/stable-diffusion-v1-5`,
            with `@` and a revision behind it if wanted.
        device: as `find_device`.
        dtype: of the networks, such as torch.bfloat16 or "bfloat16"; without one float16 on CUDA (bfloat16 for Stable
            Diffusion 3 and Flux, which overflow in the other), else float32 (half files are widened: CPUs compute
            slowly in them). "auto" is that on CUDA, and on a CPU what `fastest_on_cpu` measures.
        vae: another VAE in place of the model's: a folder with its config.json, one with a `vae/`, a .safetensors file,
            or a hub id.

    Raises:
        BackboneError: files are missing or broken, the parts do not fit each other or cannot do the work, or the device
            is not there.
    """
    device = find_device(device)
    dtype = find_dtype(dtype, device)
    try:
        with _quiet_loaders():
            return _load(name, device, dtype, vae)
    except BackboneError:
        raise
    except HubError as error:
        raise BackboneError(f"backbone {error}: check the id and the network, or give a folder") from error
    except ModelFileError as error:
        raise BackboneError(str(error)) from error
    except Exception as error:  # a damaged file may make the libraries say anything
        raise BackboneError(f"backbone {name} does not load ({first_line(error)}): {_remedy(name)}") from error


def _load(name: str, device: torch.device, dtype: torch.dtype | None, vae: str | None) -> Backbone:
    folder = ASSETS / name if name == "miniature" else Path(name)
    is_folder, is_file = folder.is_dir(), folder.suffix.lower() == ".safetensors"
    if not is_folder and not is_file:
        if folder.suffix.lower() in PICKLES:
            raise BackboneError(f"{folder} may run code when it is read: convert it to .safetensors, and give that")
        if folder.is_file():
            wrong = check_weights(folder) or "its name does not end in .safetensors: rename it if it is that"
            raise BackboneError(f"{folder} is no model that can be read here: {wrong}")
        if name == "miniature" or not is_hub_id(name):
            raise BackboneError(f"there is no backbone folder {folder}: {_remedy(name, missing=True)}")
    source = folder if is_folder or is_file else fetch(name, lambda names: hub_files(names, PARTS))
    damage = check_weights(folder) if is_file else None
    if damage is not None:
        raise BackboneError(f"{folder} cannot be read: {damage}")
    dtype = dtype or (_half(source) if device.type == "cuda" else torch.float32)
    own_vae = None if vae is None else load_vae(vae, dtype)
    parts = load_single_file(source, dtype, own_vae) if is_file else _load_parts(source, dtype, own_vae, name)
    if not is_folder:
        folder = folder.with_suffix("") if is_file else DOWNLOADED / name.partition("@")[0].replace("/", "--")
    denoiser = denoiser_of(parts["unet"])
    check_that_it_draws(source, denoiser, parts["vae"], parts["scheduler_config"])
    defaults = _defaults(denoiser, parts["vae"], parts["scheduler_config"])
    if name == "miniature":
        defaults = replace(defaults, **DRAWN_WORLD)
    backbone = Backbone(name, folder, defaults=defaults, **parts)
    _check_texts(source, backbone, denoiser)
    networks = {**backbone.text.encoders, "unet": denoiser.net, "vae": backbone.vae}
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    resting = () if free is None else left_on_cpu({part: size_of(network) for part, network in networks.items()}, free)
    for part, network in networks.items():
        if (weight := not_finite(network.state_dict())) is not None:
            raise BackboneError(
                f"{source}: {part} holds a weight that is no number ({weight}): the file is damaged, or was saved from "
                "a training that diverged; give another copy"
            )
        network.eval().requires_grad_(False)
        # A quantised one is where its quantiser has put it.
        if part not in resting and not getattr(network, "is_quantized", False):
            network.to(device)
    if device.type == "cuda":  # the layout of its fast convolutions; CPUs gain nothing by it
        for network in (denoiser.net, backbone.vae):
            network.to(memory_format=torch.channels_last)
    return backbone


def size_of(network: torch.nn.Module) -> int:
    """Bytes of its weights."""
    return sum(weight.nbytes for weight in network.parameters())


def left_on_cpu(sizes: Mapping[str, int], free: int) -> tuple[str, ...]:
    """Text encoders that stay on the CPU, where a GPU does not hold all parts: the largest first, as few as can be.

    They read a prompt once, so their time counts least. A fifth of the memory is left for the work itself.

    Args:
        sizes: bytes by part.
        free: bytes of the GPU.

    Example:
        >>> left_on_cpu({"text_encoder": 1, "text_encoder_3": 10, "unet": 16, "vae": 1}, 24)
        ('text_encoder_3',)
    """
    left: list[str] = []
    for part in sorted((part for part in sizes if part.startswith("text_encoder")), key=lambda part: -sizes[part]):
        if sum(size for other, size in sizes.items() if other not in left) <= 0.8 * free:
            break
        left.append(part)
    return tuple(left)


def _half(source: Path) -> torch.dtype:
    """The half precision that a model's activations fit in."""
    index = read_json(source / "model_index.json", str) if (source / "model_index.json").is_file() else {}
    return torch.bfloat16 if KINDS.get(index.get("_class_name", "")) in (STABLE_DIFFUSION_3, FLUX) else torch.float16


def _remedy(name: str, missing: bool = False) -> str:
    if name == "miniature":
        return "`git checkout -- assets/miniature` restores it, `python -m train.miniature` builds it anew"
    if missing:
        return "give 'miniature', a folder in diffusers format, a .safetensors file, or a hub id such as owner/name"
    return f"copy {name} again"


def _defaults(denoiser: Denoiser, vae: AutoencoderKL, scheduler_config: Mapping[str, Any]) -> Defaults:
    """The denoiser's own size, an integer or (height, width) in latent pixels. Flux, which names none, has 128.

    Models of a few steps were made to be sampled without guidance, unless they read its scale.
    """
    stored = denoiser.net.config.get("sample_size", 128)
    sides = stored if isinstance(stored, (list, tuple)) else (stored, stored)
    height, width = (512 if side is None else int(side) * vae_scale(vae) for side in sides)
    if few_step_solver(scheduler_config) is not None:
        return Defaults(FEW_STEPS, denoiser.guidance_scale if denoiser.guides_itself else 0.0, height, width)
    return Defaults(denoiser.num_inference_steps, denoiser.guidance_scale, height, width)


def only_stable_diffusion(backbone: Backbone, what: str) -> Backbone:
    """The backbone, where it is a Stable Diffusion 1.x.

    Args:
        what: works with no other, such as "python -m train.dapt".

    Raises:
        BackboneError: it is of another kind.
    """
    if backbone.kind != STABLE_DIFFUSION_1:
        raise BackboneError(
            f"{what} works with {STABLE_DIFFUSION_1} only, and {backbone.name} is {backbone.kind}: it can be sampled "
            f"from, and read {what_it_reads(backbone)} made elsewhere"
        )
    return backbone


def what_it_reads(backbone: Backbone) -> str:
    """What of methods a backbone can take up."""
    projected = denoiser_of(backbone.unet).reads_projected
    return "edited weights and value encoders" if projected else "value encoders"


# --- can it do the work ----------------------------------------------------------------------------------------------


def check_that_it_draws(
    source: Path, denoiser: Denoiser, vae: AutoencoderKL, scheduler_config: Mapping[str, Any]
) -> None:
    """Refuses at once what would end in an error of shapes, or in noise, after minutes of work.

    Raises:
        BackboneError: the denoiser wants more than latents and a text, or the parts do not fit each other.
    """
    config, latent = denoiser.net.config, vae.config.latent_channels
    if denoiser.in_channels != latent:
        raise BackboneError(f"{source} {other_work(denoiser.in_channels, latent)}")
    if denoiser.out_channels not in (latent, 2 * latent):
        raise BackboneError(f"{source}: its U-Net predicts {denoiser.out_channels} channels, its VAE reads {latent}; "
                            "give parts of one model")  # fmt: skip
    for key, what in (
        ("class_embed_type", "class labels"),
        ("num_class_embeds", "class labels"),
        ("encoder_hid_dim_type", "embeddings of pictures"),
    ):
        if config.get(key) is not None and isinstance(denoiser.net, UNet2DConditionModel):
            raise BackboneError(
                f"{source}: its U-Net reads {what} beside the text ({key} in its config.json), which cannot be given "
                "here; give the text-to-image model that it comes from"
            )
    if (extra := config.get("addition_embed_type")) not in (None, "text_time"):
        raise BackboneError(f"{source}: its U-Net reads {extra} beside the text, which cannot be given here; give a "
                            "Stable Diffusion, SDXL or PixArt model")  # fmt: skip
    if denoiser.reads_projected and not isinstance(config.cross_attention_dim, int):
        raise BackboneError(f"{source}: its U-Net reads texts of several widths ({config.cross_attention_dim}); give a "
                            "Stable Diffusion, SDXL or PixArt model")  # fmt: skip
    prediction = scheduler_config.get("prediction_type", "epsilon")
    if denoiser.is_flow and (stored := scheduler_config.get("_class_name", FLOW)) != FLOW:
        raise BackboneError(f"{source}: its scheduler is {stored}, and {denoiser.title} is sampled by {FLOW}: correct "
                            "scheduler/scheduler_config.json")  # fmt: skip
    if prediction not in PREDICTIONS:
        raise BackboneError(f"{source}: its scheduler predicts {prediction!r}; known are {', '.join(PREDICTIONS)}: "
                            "correct scheduler/scheduler_config.json")  # fmt: skip
    try:
        scheduler = denoiser.solver(scheduler_config).from_config(dict(scheduler_config))
        denoiser.set_timesteps(scheduler, 2, (2 * denoiser.patch, 2 * denoiser.patch))
    except Exception as error:
        raise BackboneError(
            f"{source}: its scheduler cannot be used ({first_line(error)}): correct scheduler/scheduler_config.json"
        ) from error


def _check_texts(source: Path, backbone: Backbone, denoiser: Denoiser) -> None:
    text = backbone.text
    for what, given, read in (
        ("width", text.width, denoiser.text_width),
        ("pooled width", text.pooled_width, denoiser.pooled_width),
    ):
        if given != read:
            raise BackboneError(
                f"backbone {source} does not fit together: the text encoder gives {what} {given}, the denoiser reads "
                f"{read}; give parts of one model"
            )
    pairs = [
        (backbone.tokenizer, backbone.text_encoder),
        (backbone.tokenizer_2, backbone.text_encoder_2),
        (backbone.tokenizer_3, backbone.text_encoder_3),
    ]
    for tokenizer, encoder in pairs:
        if tokenizer is not None and encoder is not None and len(tokenizer) > encoder.config.vocab_size:
            raise BackboneError(
                f"backbone {source} does not fit together: its tokenizer knows {len(tokenizer)} tokens, its text "
                f"encoder {encoder.config.vocab_size}; give parts of one model"
            )


# --- reading parts ---------------------------------------------------------------------------------------------------


def load_vae(source: str, dtype: torch.dtype) -> AutoencoderKL:
    """A VAE: a folder with its config.json, a model's folder with a `vae/`, a .safetensors file, or a hub id.

    Raises:
        ModelFileError, HubError: it is none of these, or cannot be read.
    """
    path = Path(source)
    if path.is_file():
        if (wrong := check_weights(path)) is not None:
            raise ModelFileError(f"--vae {path} cannot be read: {wrong}")
        return load_vae_file(path, dtype)
    if not path.is_dir():
        if not is_hub_id(source):
            raise ModelFileError(f"there is no VAE at {source}: give a folder, a .safetensors file, or a hub id")
        path = fetch(source, lambda names: [*hub_files(names, ["vae"]), *hub_files(names, [""])])
    folder = path / "vae" if (path / "vae").is_dir() else path
    return _network(folder, AutoencoderKL, dtype)


def _load_parts(source: Path, dtype: torch.dtype, vae: AutoencoderKL | None, name: str) -> dict[str, Any]:
    """`Backbone`'s fields of a folder in diffusers format."""
    index_path = source / "model_index.json"
    index = read_json(index_path, str) if index_path.is_file() else {}  # older folders of Stable Diffusion have none
    kind = {part: wanted for part, wanted in _kind(source, index).items() if not _left_out(part, index)}
    if not any((source / part).is_dir() for part in kind):
        raise BackboneError(f"{source} {_what_folder(source)}")

    def missing(path: Path) -> str:
        part = path.parent.name
        if part == "vae":
            return f"{path} is missing: the folder lacks its VAE; give one with --vae, or {_remedy(name)}"
        return f"{path} is missing: {_remedy(name)}{f'; or, {WITHOUT_T5}' if part in OPTIONAL else ''}"

    for part, wanted in kind.items():
        if not (part == "vae" and vae is not None):
            read_json(source / part / ("tokenizer_config.json" if wanted in (CLIP, T5) else "config.json"), missing)
    scheduler_config = read_json(source / "scheduler" / "scheduler_config.json", missing)
    parts: dict[str, Any] = {}
    for part, wanted in kind.items():
        folder = source / part
        if wanted in (CLIP, T5):
            parts[part] = _tokenizer(folder, wanted, name)
        elif part == "vae" and vae is not None:
            parts[part] = vae
        else:
            if part == "vae":
                dtype = denoiser_of(parts["unet"]).vae_dtype(wanted.load_config(folder), dtype)
            parts["unet" if part == "transformer" else part] = _network(folder, wanted, dtype)
    if (most := T5_TOKENS.get(index.get("_class_name", ""))) is not None:
        parts["tokenizer"].model_max_length = most
    if isinstance(parts["unet"], FluxTransformer2DModel):
        is_dev = denoiser_of(parts["unet"]).guides_itself
        parts["tokenizer_2"].model_max_length = FLUX_T5_TOKENS if is_dev else SCHNELL_T5_TOKENS
    parts["force_zeros_for_empty_prompt"] = bool(index.get("force_zeros_for_empty_prompt", "tokenizer_2" in parts))
    if kind == STABLE_DIFFUSION:
        scheduler_config = _corrected(scheduler_config)
    return parts | {"scheduler_config": scheduler_config}


def _corrected(stored: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's config as Stable Diffusion's pipeline takes it: two values of old files are set right."""
    try:
        full = find_scheduler(str(stored.get("_class_name"))).from_config(stored).config
    except Exception:  # `check_that_it_draws` will tell
        return stored
    right = {"steps_offset": 1, "clip_sample": False}
    return stored | {key: value for key, value in right.items() if key in full and full[key] != value}


def _kind(folder: Path, index: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `KINDS`; variants of Stable Diffusion's pipeline are read as itself."""
    name = index.get("_class_name", "StableDiffusionPipeline")
    if not isinstance(name, str):
        raise BackboneError(f"{folder}/model_index.json names no pipeline: copy the folder again")
    has_unet = (folder / "unet").is_dir() or "_class_name" not in index
    if name not in KINDS and (name.startswith("StableDiffusionXL") or not has_unet):
        raise BackboneError(f"{folder} holds a {name}, which cannot be run here: give one of {', '.join(KINDS)}")
    return KINDS.get(name, STABLE_DIFFUSION)


def _left_out(part: str, index: Mapping[str, Any]) -> bool:
    """Whether a model comes without a part that it can do without."""
    named = index.get(part, (None, None))
    return part in OPTIONAL and (named is None or list(named) == [None, None])


def _what_folder(folder: Path) -> str:
    """Why a folder without any part is no model, and the way out."""
    names = listing(folder)
    if files := [name for name in names if name.lower().endswith(".safetensors")]:
        return f"is no folder in diffusers format: give its file, such as {folder / files[0]}"
    if inner := [p for p in sorted(folder.iterdir()) if (p / "model_index.json").is_file() or (p / "unet").is_dir()]:
        return f"is no folder in diffusers format, but {inner[0]} is: give that"
    return "is no folder in diffusers format: it has none of unet/, vae/, text_encoder/, tokenizer/; give one that has"


def _tokenizer(folder: Path, vocabulary: tuple[str, ...], name: str) -> PreTrainedTokenizerBase:
    # transformers takes a tokenizer without its vocabulary for one of two tokens, and says nothing.
    there = next((folder / file for file in vocabulary if (folder / file).is_file()), None)
    if there is None:
        raise BackboneError(f"{folder / 'tokenizer.json'} is missing: {_remedy(name)}")
    if there.name == "spiece.model" and (lacking := [m for m in ("sentencepiece", "google.protobuf") if not _has(m)]):
        way_out = "`pip install sentencepiece protobuf`"
        raise BackboneError(f"{there} is read by sentencepiece ({', '.join(lacking)} not installed): {way_out}")
    try:
        return (CLIPTokenizer if vocabulary is CLIP else AutoTokenizer).from_pretrained(folder)
    except Exception as error:
        raise BackboneError(f"{folder} does not load ({first_line(error)}): {_remedy(name)}") from error


def _network(folder: Path, network: Any, dtype: torch.dtype) -> Any:
    """One network with all of its weights.

    Raises:
        ModelFileError: there are none, they cannot be read, or they are not those of its config.json.
    """
    again = f"copy {folder.parent} again"
    read_json(folder / "config.json", lambda path: f"{path} is missing: {again}")
    chosen = choose_weights(listing(folder))
    if chosen is None:
        raise ModelFileError(f"{folder} holds no weights (*.safetensors): {again}")
    for file in chosen.names:
        if (wrong := check_weights(folder / file)) is not None:
            raise ModelFileError(f"{folder / file} cannot be read: {wrong}")
    is_diffusers = network in (*NETWORKS.values(), AutoencoderKL)
    stem = "diffusion_pytorch_model" if is_diffusers else "model" if chosen.suffix == "safetensors" else "pytorch_model"
    with staged(folder, chosen, stem) as scratch:
        try:
            loaded, said = network.from_pretrained(scratch, dtype=dtype, output_loading_info=True)
        except Exception as error:
            reason = first_line(error).replace(str(scratch), str(folder))
            raise ModelFileError(f"{folder} does not load ({reason}): {again}") from error
    if lacking := sorted(said["missing_keys"]):  # they would be random
        raise ModelFileError(
            f"{folder} does not load ({len(lacking)} weights are missing in it, such as {lacking[0]}): {again}"
        )
    return loaded


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


@contextmanager
def _quiet_loaders() -> Iterator[None]:
    """No progress bar of a second's loading, no warning that `latent_rgb` in the VAE's config is not diffusers' own."""
    libraries = (diffusers_logging, transformers_logging)
    shown = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, (verbosity, bar) in zip(libraries, shown, strict=True):
            library.set_verbosity(verbosity)
            if bar:
                library.enable_progress_bar()
