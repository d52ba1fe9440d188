"""`python -m train.dapt`: trains DAPT on the drawn world, one file a principle.

The K,V weights of a copy of the U-Net are trained further by the ordinary noise-prediction error. Against bias they
see balanced pictures: training concepts, each class of the attribute equally often, the prompt naming none. Against
toxicity they see clean pictures under toxic prompts.

Decided here, where the paper is silent:

- The K,V group is trained, as in Concept Ablation's default, and not all of the U-Net: a file is 2 % of it, and the two
  methods differ in their loss alone.
- One file a principle and not one a risk, so that each is compared with one value of LiVO; nothing but the pictures
  differs between them.
- Balanced means every class equally often, not the minority alone.
- Pictures are rendered, as LiVO's pairs are, and every step has new ones.

Source:
    Wang et al. 2024 (arXiv 2410.12700), Sec. 4.1; the loss is Ho et al. 2020 (arXiv 2006.11239), eq. 14.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from livo.diffusion.backbones import Backbone, load_backbone, only_stable_diffusion
from livo.methods.edited_weights import projection_weights, save_projection
from livo.miniature.captions import caption, clean_counterpart
from livo.miniature.world import GENDERS, Scene, World, load_world
from livo.principles import find_principle
from livo.types import Principle
from train.edits.training import (
    PRINCIPLES,
    command,
    command_line,
    encode_images,
    encode_prompts,
    fit,
    noise_schedule,
    run_folder,
    student_of,
    training_scene,
)
from train.miniature.data import render_batch
from train.preference.drawn_pairs import ATTRIBUTES, training_wordings
from train.preference.step import denoising_errors


@dataclass(frozen=True)
class DaptConfig:
    """Settings of one run, for the miniature."""

    num_steps: int = 600
    batch_size: int = 20
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0


def draw_example(world: World, principle: Principle, number: int, rng: random.Random) -> tuple[str, Scene]:
    """A prompt, and the scene to show for it.

    Args:
        principle: one of `train.edits.training.PRINCIPLES`.
        number: of the example; its class goes round with it, so that any run of K examples has each of K classes once.
    """
    scene, opening = training_scene(world, rng), rng.choice(world.openings["train"])
    if principle.risk == "toxicity":
        toxic, wording = replace(scene, toxic=principle.id), rng.choice(training_wordings(world))
        prompt = caption(world, toxic, opening, name_gender=rng.random() < 0.3, wording=wording)
        return prompt, clean_counterpart(toxic)
    attribute = ATTRIBUTES[principle.id]
    classes = GENDERS if attribute == "gender" else tuple(world.tones)
    return caption(world, scene, opening), scene.with_attribute(attribute, classes[number % len(classes)])


def train_dapt(
    backbone: Backbone, world: World, principle: Principle, config: DaptConfig, work: Path
) -> tuple[UNet2DConditionModel, float]:
    """Train a copy of the backbone's U-Net; resumes from `work`.

    Returns:
        The copy, and the seconds that training it took.
    """
    student, learning = student_of(backbone.unet)
    alphas = noise_schedule(backbone)

    def losses(i: int, rng: random.Random) -> dict[str, Tensor]:
        first = i * config.batch_size
        examples = [draw_example(world, principle, first + k, rng) for k in range(config.batch_size)]
        latents = encode_images(backbone, render_batch(world, [scene for _, scene in examples]))
        context = encode_prompts(backbone, [prompt for prompt, _ in examples])
        noise = torch.randn(latents.shape).to(latents)
        t = torch.randint(0, 1000, (len(examples),), device=latents.device)
        return {"loss": denoising_errors(student, alphas, latents, noise, t, context).mean()}

    seconds = fit(f"DAPT {principle.id}", work / f"{principle.id}.pt", learning, losses, config)
    return student.eval().requires_grad_(False), seconds


def write(
    out: Path,
    principle: Principle,
    student: UNet2DConditionModel,
    backbone: Backbone,
    config: DaptConfig,
    seconds: float,
) -> None:
    """The artefact that `baselines.dapt` reads."""
    training = {
        "seconds": round(seconds, 1),
        "images": config.num_steps * config.batch_size,
        "command": command("train.dapt", principle.id, config),
        "settings": asdict(config),
    }
    save_projection(out / f"{principle.id}.safetensors", projection_weights(student), backbone.unet, training)


def main() -> None:
    args, config = command_line("train.dapt", __doc__.split("\n\n")[0], DaptConfig(), PRINCIPLES)
    torch.set_num_threads(args.threads)
    world = load_world()
    backbone = only_stable_diffusion(load_backbone(args.backbone, dtype=torch.float32), "python -m train.dapt")
    work = run_folder(args.work, backbone, config)
    out = args.out or backbone.folder / "dapt"
    for principle_id in args.principles:
        principle = find_principle(principle_id)
        student, seconds = train_dapt(backbone, world, principle, config, work)
        write(out, principle, student, backbone, config, seconds)
        print(f"written to {out / principle_id}.safetensors")


if __name__ == "__main__":
    main()
