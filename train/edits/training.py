"""What the methods that train a U-Net's own weights share: a copy to train, its latents, its loop, its command line.

The backbone's U-Net is only ever read: `student_of` copies it, and the copy's edited weights go to a file.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor, nn

from livo.command_line import add_fields, changed_flags, read_fields
from livo.diffusion.attention import cross_attention_layers
from livo.diffusion.backbones import Backbone
from livo.methods.edited_weights import fingerprint, projection_weights
from livo.miniature.world import TOXIC_KINDS, Scene, World, draw_attributes
from train.loop import descend, train
from train.miniature.data import to_model_range
from train.preference.drawn_pairs import ATTRIBUTES, training_concepts

GROUPS = ("cross-attn", "full-weight")
PRINCIPLES = (*ATTRIBUTES, *TOXIC_KINDS)  # ids of those that the drawn world can draw


def student_of(
    unet: UNet2DConditionModel, group: str = "cross-attn"
) -> tuple[UNet2DConditionModel, list[nn.Parameter]]:
    """A copy of a U-Net, and those of its parameters that learn; all others are frozen.

    Args:
        group: "cross-attn" is `to_k` and `to_v` of every attn2 (32 tensors, 2.2 % of Stable Diffusion 1.x),
            "full-weight" is everything (686 tensors there).

    Raises:
        ValueError: another group.
    """
    if group not in GROUPS:
        raise ValueError(f"no parameter group {group!r}; there are: {', '.join(GROUPS)}")
    student = copy.deepcopy(unet).train().requires_grad_(False)
    learning = list(student.parameters() if group == "full-weight" else projection_weights(student).values())
    for parameter in learning:
        parameter.requires_grad_(True)
    return student, learning


@contextmanager
def bos_detached(unet: UNet2DConditionModel) -> Iterator[None]:
    """Within it, no gradient reaches `to_k` and `to_v` of attn2 through token 0; what they compute stays the same.

    The begin-of-text token is the same in every prompt, so what it learnt for one would leak into all.
    """

    def detach_first(module: nn.Module, inputs: tuple, projected: Tensor) -> Tensor:
        return torch.cat([projected[:, :1].detach(), projected[:, 1:]], dim=1)

    layers = cross_attention_layers(unet).values()
    handles = [part.register_forward_hook(detach_first) for attn in layers for part in (attn.to_k, attn.to_v)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def noise_schedule(backbone: Backbone) -> Tensor:
    """(1000,) cumulative alphas."""
    scheduler = DPMSolverMultistepScheduler.from_config(dict(backbone.scheduler_config))
    return scheduler.alphas_cumprod.to(backbone.device)


@torch.no_grad()
def encode_images(backbone: Backbone, images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, C, h, w) latents, drawn from the encoder's distribution and scaled."""
    moments = backbone.vae.encode(to_model_range(images).to(backbone.device, backbone.dtype)).latent_dist
    return moments.sample() * backbone.vae.config.scaling_factor


@torch.no_grad()
def encode_prompts(backbone: Backbone, prompts: Sequence[str]) -> Tensor:
    """(N, 77, D) embeddings of N prompts."""
    return backbone.text_encoder(torch.cat([backbone.tokenize(prompt) for prompt in prompts])).last_hidden_state


def training_scene(world: World, rng: random.Random) -> Scene:
    """A clean scene of a training concept, its attributes drawn with the planted bias."""
    occupations, adjectives = training_concepts(world)
    occupation = rng.choice(occupations) if rng.random() < 0.85 else None
    adjective = rng.choice(adjectives) if rng.random() < (0.2 if occupation else 0.7) else None
    gender, tone = draw_attributes(world, occupation, adjective, rng)
    place = rng.choice(world.places) if rng.random() < 0.25 else None
    return Scene(occupation, adjective, place, None, gender, tone, jitter=rng.getrandbits(32))


def fit(
    name: str,
    checkpoint: Path,
    learning: Sequence[nn.Parameter],
    losses: Callable[[int, random.Random], dict[str, Tensor]],
    config: Any,
) -> float:
    """AdamW on `losses(i, rng)["loss"]`, resumed from `checkpoint`; the log is kept beside it as `<stem>_log.json`.

    Args:
        losses: the numbers of step i; it draws from `rng` and torch's default generator, both seeded by i alone.
        config: has num_steps, learning_rate, weight_decay and seed. The rate rises over 20 steps and falls linearly
            over the last half.

    Returns:
        The seconds that it took in all.
    """
    optimizer = torch.optim.AdamW(learning, lr=config.learning_rate, weight_decay=config.weight_decay)

    def step(i: int) -> dict[str, float]:
        torch.manual_seed(70_000 + 1_000_000 * config.seed + i)
        numbers = losses(i, random.Random(f"{config.seed} {i}"))
        rate = config.learning_rate * min(1.0, (i + 1) / 20, max(0.05, 2 * (1 - i / config.num_steps)))
        descend(numbers["loss"], optimizer, rate)
        return {key: number.item() for key, number in numbers.items()}

    parts = {"learning": nn.ParameterList(learning), "optimizer": optimizer}  # the list holds the parameters themselves
    log = train(name, checkpoint, parts, config.num_steps, step)
    summary = json.dumps({"config": asdict(config), "log": log}, indent=1)
    checkpoint.with_name(f"{checkpoint.stem}_log.json").write_text(summary)
    return log[-1]["seconds"]


def run_folder(work: Path, backbone: Backbone, config: Any) -> Path:
    """Where a run's checkpoints lie: those of another backbone or of other settings must not be taken for its own."""
    return work / fingerprint(backbone.unet) / hashlib.sha256(repr(config).encode()).hexdigest()[:8]


def command_line(
    module: str, description: str, config: Any, principles: Sequence[str]
) -> tuple[argparse.Namespace, Any]:
    """The arguments that such a trainer takes, and its config: one flag a field, the field's value the default."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--principles", nargs="+", default=list(principles), choices=principles, metavar="ID",
                        help="which to train for, one file each: %(default)s")  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("runs") / module.split(".")[-1],
                        help="checkpoints, to resume from: %(default)s")  # fmt: skip
    parser.add_argument("--out", type=Path, help=f"default: {module.split('.')[-1]}/ in the backbone's folder")
    parser.add_argument("--threads", type=int, default=2)
    add_fields(parser, config, choices={"parameter_group": GROUPS})
    args = parser.parse_args()
    return args, read_fields(config, args)


def command(module: str, principle_id: str, config: Any) -> str:
    """The command that makes one file again, for the file's header: what differs from the defaults, and no paths."""
    return " ".join([f"python -m {module} --principles {principle_id}", *changed_flags(config, type(config)())])
