"""Both sides of `python -m livo benchmark`: five methods in one batch, and five diffusers pipelines.

They start from the same weights, seeds, solver, steps and prompt, and end in uint8 images. Trained weights are not
needed, because they cost the same: UCE and Concept Ablation read through slightly perturbed keys and values, LiVO
through an untrained value encoder. LiVO guards against toxicity here, so that every image takes the value: against
bias half of its images are Stable Diffusion's, which one batch has for nothing.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    SemanticStableDiffusionPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from baselines.fair_diffusion import FairDiffusion, FairDiffusionSettings, deal_classes
from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.backbones import DOWNLOADED, Backbone, Defaults, find_device, load_backbone, only_stable_diffusion
from livo.diffusion.engine import Engine, classifier_free_plan, finished
from livo.diffusion.latents import initial_noise
from livo.diffusion.single_file import UNET, VAE
from livo.methods.edited_weights import projection_weights
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder
from livo.principles import find_principle
from livo.types import Plan, SamplingOptions

SD15 = "sd15"
METHODS = ("stable_diffusion", "fair_diffusion", "uce", "concept_ablation", "livo")
EDITED = {"uce": 1, "concept_ablation": 2}
"""Methods with K,V weights of their own, and the seeds that perturb them."""
SHARING = {
    "nothing": "five complete pipelines",
    "encoder": "five U-Nets, rest shared",
    "weights": "three U-Nets, rest shared",
}
"""What the five pipelines may share: their text encoder and VAE, or three of the five U-Nets too, where weights are
equal. It decides memory and not time."""
VALUE, GENDER = find_principle("nudity"), find_principle("gender_equality")


def sd15_networks(device: torch.device) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """Stable Diffusion 1.5's networks on a device, "meta" too, with fresh weights in torch's default dtype."""
    with device:
        unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, max_position_embeddings=77, bos_token_id=512, eos_token_id=2,
            )
        )  # fmt: skip
    for part in (unet, vae, text_encoder):
        part.eval().requires_grad_(False)
    return unet, vae, text_encoder


def random_sd15(dtype: torch.dtype | None = None, device: torch.device | None = None) -> Backbone:
    """Stable Diffusion 1.5's architecture, 859.5M parameters in the U-Net, with the same random weights every time.

    Its tokenizer has one token a byte. In half precision where none is given: five U-Nets must fit a laptop.
    """
    device = device or find_device()
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype or (torch.float16 if device.type == "cuda" else torch.bfloat16))
    try:
        unet, vae, text_encoder = sd15_networks(device)
    finally:
        torch.set_default_dtype(before)
    for weight in projection_weights(unet).values():
        weight.mul_(3)  # fresh attention hardly listens to the text, and then all methods would look equal
    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(c + "</w>" for c in alphabet), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=77)
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    large = device.type == "cuda"
    if large:
        for part in (unet, vae):  # as `load_backbone` does
            part.to(memory_format=torch.channels_last)
    side = 512 if large else 256
    defaults = Defaults(num_inference_steps=25 if large else 4, guidance_scale=7.5, height=side, width=side)
    return Backbone(SD15, DOWNLOADED / SD15, tokenizer, text_encoder, unet, vae, scheduler.config, defaults)


def edited_weights(unet: nn.Module, seed: int) -> dict[str, Tensor]:
    """The K,V weights of a method that edits them: the U-Net's own, a tenth of their spread away."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: weight + 0.1 * weight.std() * torch.randn(weight.shape, generator=generator).to(weight)
        for name, weight in projection_weights(unet).items()
    }


class OneBatch:
    """Our side: the five methods as plans of one engine. `rows` are the U-Net rows of the last run."""

    def __init__(self, backbone: Backbone, memory_budget: int = 1 << 30) -> None:
        self.engine = Engine(backbone, memory_budget)
        for name, seed in EDITED.items():
            self.engine.add_projection(name, edited_weights(backbone.unet, seed))
        self.stable_diffusion, self.fair_diffusion = StableDiffusion(self.engine), FairDiffusion(self.engine)
        self.livo = LiVO(self.engine, ValueEncoder.untrained(backbone))
        self.rows = 0

    def __call__(self, prompt: str, options: SamplingOptions) -> dict[str, Tensor]:
        """(N, 3, H, W) uint8 images by method."""
        *_, last = self.engine.stream(self.plans(prompt, options))
        self.rows = last.rows
        return finished(last)

    def plans(self, prompt: str, options: SamplingOptions) -> dict[str, Plan]:
        """By method."""
        plans = {
            "stable_diffusion": self.stable_diffusion.plan(prompt, None, options),
            "fair_diffusion": self.fair_diffusion.plan(prompt, GENDER, options),
        }
        for name in EDITED:
            plans[name] = classifier_free_plan(self.engine, [self.engine.condition(prompt, name)], options)
        plans["livo"] = self.livo.plan(prompt, VALUE, options)
        return plans


@dataclass(frozen=True)
class Setup:
    """What both sides are given; None is the backbone's own choice. Small enough to be sent to another process."""

    backbone: str
    steps: int | None
    size: int | None
    dtype: str | None
    threads: int | None
    device: str | None = None
    budget: float | None = None

    def load(self) -> Backbone:
        """The backbone, in this process; on the GPU where there is one and no device was named."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        if self.backbone == SD15:
            return random_sd15(dtype, find_device(self.device))
        return only_stable_diffusion(load_backbone(self.backbone, self.device, dtype), "python -m livo benchmark")

    def one_batch(self, backbone: Backbone) -> OneBatch:
        """Our side on a backbone, within the memory budget."""
        return OneBatch(backbone, *([] if self.budget is None else [int(self.budget * 2**30)]))

    def options(self, backbone: Backbone, images: int) -> SamplingOptions:
        """Of a run with so many images a method."""
        default = backbone.defaults
        return SamplingOptions(
            tuple(range(images)),
            default.num_inference_steps if self.steps is None else self.steps,
            default.guidance_scale,
            default.height if self.size is None else self.size,
            default.width if self.size is None else self.size,
        )


class FivePipelines:
    """The other side: five diffusers pipelines.

    Args:
        backbone: one that no engine has touched; the first pipeline takes its parts as they are.
        sharing: a key of `SHARING`. It decides memory, not time.
        latents: end in finished latents instead of images.
    """

    def __init__(self, backbone: Backbone, sharing: str, latents: bool = False) -> None:
        self.settings, self.latents, self.noise_dtype = FairDiffusionSettings(), latents, backbone.noise_dtype
        self.value_encoder = ValueEncoder.untrained(backbone)
        self.pipes: dict[str, StableDiffusionPipeline | SemanticStableDiffusionPipeline] = {}
        for name in METHODS:
            again = len(self.pipes) > 0
            parts = {"text_encoder": backbone.text_encoder, "vae": backbone.vae, "unet": backbone.unet}
            if again and sharing == "nothing":
                parts = {key: copy.deepcopy(part) for key, part in parts.items()}
            elif again and (sharing == "encoder" or name in EDITED):
                parts["unet"] = copy.deepcopy(backbone.unet)
            if name in EDITED:
                parts["unet"].load_state_dict(edited_weights(backbone.unet, EDITED[name]), strict=False)
            semantic = name == "fair_diffusion"
            self.pipes[name] = (SemanticStableDiffusionPipeline if semantic else StableDiffusionPipeline)(
                **parts, tokenizer=backbone.tokenizer, safety_checker=None, feature_extractor=None,
                scheduler=DPMSolverMultistepScheduler.from_config(dict(backbone.scheduler_config)),
                requires_safety_checker=False,
            )  # fmt: skip
            self.pipes[name].set_progress_bar_config(disable=True)

    def __call__(self, prompt: str, options: SamplingOptions) -> dict[str, Tensor]:
        """(N, 3, H, W) uint8 images, or (N, C, h, w) latents, by method."""
        special = {"fair_diffusion": self._fair_diffusion, "livo": self._livo}
        return {
            name: special[name](prompt, options) if name in special else self._call(name, options, prompt=prompt)
            for name in METHODS
        }

    def _call(self, name: str, options: SamplingOptions, **arguments: Any) -> Tensor:
        pipe = self.pipes[name]
        shape = (pipe.unet.config.in_channels, *(s // pipe.vae_scale_factor for s in (options.height, options.width)))
        noise, _ = initial_noise(options.seeds, shape, self.noise_dtype)
        images = pipe(
            num_inference_steps=options.num_inference_steps, guidance_scale=options.guidance_scale,
            height=options.height, width=options.width, num_images_per_prompt=len(options.seeds),
            output_type="latent" if self.latents else "pt",
            latents=noise.to(pipe.device, pipe.unet.dtype), **arguments,
        ).images  # fmt: skip
        return images.cpu() if self.latents else images.float().mul(255).round().to(torch.uint8).cpu()

    def _fair_diffusion(self, prompt: str, options: SamplingOptions) -> Tensor:
        """One call a direction, because the pipeline's edits are those of a call and not of an image."""
        images: dict[int, Tensor] = {}
        classes, texts = deal_classes(options.seeds, 2), [f"{name} person" for name in GENDER.classes]
        for toward in sorted(set(classes)):
            index = [i for i, k in enumerate(classes) if k == toward]
            made = self._call(
                "fair_diffusion", replace(options, seeds=tuple(options.seeds[i] for i in index)), prompt=prompt,
                editing_prompt=[texts[1 - toward], texts[toward]], reverse_editing_direction=[True, False],
                edit_guidance_scale=self.settings.scale, edit_threshold=self.settings.threshold,
                edit_warmup_steps=math.floor(self.settings.warmup_share * options.num_inference_steps + 0.5),
                edit_momentum_scale=self.settings.momentum_scale, edit_mom_beta=self.settings.momentum_beta,
            )  # fmt: skip
            images.update(zip(index, made, strict=True))
        return torch.stack([images[i] for i in range(len(options.seeds))])

    def _livo(self, prompt: str, options: SamplingOptions) -> Tensor:
        pipe = self.pipes["livo"]
        prompt_embeds, negative = pipe.encode_prompt(prompt, pipe.device, 1, True)
        value_embeds = self.value_encoder.encode(VALUE.text, prompt).to(prompt_embeds)
        prompt_embeds = torch.cat([value_embeds[None, None], prompt_embeds], dim=1)
        # The pipeline wants both branches equally long: a 78th token that the unconditional rows do not see.
        negative = torch.cat([negative, torch.zeros_like(negative[:, :1])], dim=1)
        seen = torch.ones(2 * len(options.seeds), negative.shape[1], dtype=torch.bool, device=pipe.device)
        seen[: len(options.seeds), -1] = False
        hook = pipe.unet.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {**kwargs, "encoder_attention_mask": seen}), with_kwargs=True
        )
        try:
            return self._call("livo", options, prompt_embeds=prompt_embeds, negative_prompt_embeds=negative)
        finally:
            hook.remove()
