"""`python -m train.concept_ablation`: trains Concept Ablation for the toxic kinds of the drawn world, one file a kind.

A copy of the U-Net learns to predict for a toxic prompt c* what it predicts itself for the clean prompt c, on noised
pictures that the base model made for c:

    mean over pictures and pixels of  sum over channels (Phi(x_t, c*, t) - sg[Phi(x_t, c, t)])^2

The teacher sg[.] is the student of that very step, not a frozen copy. No gradient passes token 0 in cross-attention.

Decided here, where the release leaves or forces a choice:

- The sum over channels is the release's: it divides by a mask of one channel, so that its value is 4 times a mean. That
  matters to gradient clipping and to the prior's weight. Its mask leaves out a border of one latent in 64, a remnant of
  pasting small pictures; here nothing is pasted, a border would be a quarter of the 16 x 16 latents, and there is none.
- No scaling: a doll at a third of its size has five latents, and "far away" is no word of the drawn world. No flip:
  latents are encoded once, and mirroring latents is not mirroring pictures.
- Target prompts put a training wording of the kind into the clean prompt, each equally often; one wording, the held-out
  occupations and adjectives, and the evaluation's openings stay unseen.
- Anchor pictures get no negative prompt: the judge flags no picture of a clean prompt of this backbone, and steering
  away from "naked" or "zombie" would also change who is drawn.
- Prior preservation is on (`--prior-weight 0` is the release's 2023 setting): the noise-prediction error of the clean
  prompts, on the same noised pictures, where the release spends half of the batch on others. The teacher moves with
  the student, and without the prior both wash out: pictures of clean prompts moved twice as far from the base model's.

Source:
    Kumari et al. 2023 (arXiv 2303.13516), eq. 5, and its release.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from tqdm import tqdm

from baselines.concept_ablation import save_unet, unet_path
from livo.diffusion.backbones import Backbone, load_backbone, only_stable_diffusion
from livo.diffusion.engine import Engine, classifier_free_plan
from livo.methods.edited_weights import projection_weights, save_projection
from livo.miniature.captions import caption
from livo.miniature.world import TOXIC_KINDS, Scene, World, load_world
from livo.types import MAX_SEED, SamplingOptions
from train.edits.training import (
    bos_detached,
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
from train.loop import save_state
from train.preference.drawn_pairs import training_wordings


@dataclass(frozen=True)
class AblationConfig:
    """Settings of one run, for the miniature; the release trains with 1.6e-6 to 6.4e-5, for 200 to 800 steps of 4."""

    parameter_group: str = "cross-attn"
    num_steps: int = 200
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    prior_weight: float = 1.0
    anchors: int = 384
    seed: int = 0


@dataclass(frozen=True)
class Anchor:
    """A clean prompt and all the toxic prompts that are made from it."""

    scene: Scene
    opening: str
    name_gender: bool

    def prompt(self, world: World) -> str:
        """c."""
        return caption(world, self.scene, self.opening, name_gender=self.name_gender)

    def target(self, world: World, kind: str, wording: int) -> str:
        """c*: the same prompt with a toxic kind in one of its wordings."""
        toxic = replace(self.scene, toxic=kind)
        return caption(world, toxic, self.opening, name_gender=self.name_gender, wording=wording)


def draw_anchors(world: World, count: int, seed: int) -> list[Anchor]:
    """`count` anchors of training concepts, the same for the same seed; three in ten name a gender."""
    rng = random.Random(f"anchors {seed}")
    openings = world.openings["train"]
    return [Anchor(training_scene(world, rng), rng.choice(openings), rng.random() < 0.3) for _ in range(count)]


@torch.no_grad()
def anchor_latents(engine: Engine, prompts: Sequence[str], path: Path, *, seed: int) -> tuple[Tensor, float]:
    """One picture of the base model for each prompt, as latents; kept in `path`.

    Returns:
        (N, C, h, w) scaled latents, and the seconds that making them took.
    """
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return stored["latents"], stored["seconds"]
    began = time.perf_counter()
    defaults, rng = engine.backbone.defaults, random.Random(f"anchor pictures {seed}")
    seeds = rng.sample(range(MAX_SEED), len(prompts))
    torch.manual_seed(seed)
    latents = []
    for first in tqdm(range(0, len(prompts), 64), desc="anchors"):
        texts = engine.conditions(prompts[first : first + 64])
        ask = SamplingOptions(
            tuple(seeds[first : first + 64]), defaults.num_inference_steps, defaults.guidance_scale,
            defaults.height, defaults.width,
        )  # fmt: skip
        pictures = engine.generate({"anchors": classifier_free_plan(engine, texts, ask)})["anchors"]
        latents.append(encode_images(engine.backbone, pictures))
    made, seconds = torch.cat(latents), time.perf_counter() - began
    save_state(path, {"latents": made, "seconds": seconds})
    return made, seconds


def ablation_loss(prediction: Tensor, anchor_prediction: Tensor) -> Tensor:
    """Mean over pictures and pixels of the squared difference summed over channels; both (N, C, h, w).

    C times the mean squared error; the second one is the teacher's and gets no gradient.
    """
    return (prediction - anchor_prediction.detach()).square().sum(1).mean()


def ablate(
    backbone: Backbone,
    world: World,
    kind: str,
    anchors: Sequence[Anchor],
    latents: Tensor,
    config: AblationConfig,
    work: Path,
) -> tuple[UNet2DConditionModel, float]:
    """Train a copy of the backbone's U-Net; resumes from `work`.

    Args:
        kind: the toxic kind to ablate.
        latents: (N, C, h, w), one picture of each of N anchors.

    Returns:
        The copy, and the seconds that training it took.
    """
    student, learning = student_of(backbone.unet, config.parameter_group)
    alphas, wordings = noise_schedule(backbone), training_wordings(world)

    def losses(i: int, rng: random.Random) -> dict[str, Tensor]:
        chosen = [rng.randrange(len(anchors)) for _ in range(config.batch_size)]
        clean = encode_prompts(backbone, [anchors[k].prompt(world) for k in chosen])
        toxic = encode_prompts(backbone, [anchors[k].target(world, kind, rng.choice(wordings)) for k in chosen])
        noise = torch.randn(len(chosen), *latents.shape[1:]).to(latents)
        t = torch.randint(0, 1000, (len(chosen),), device=latents.device)
        a = alphas[t].view(-1, 1, 1, 1).to(latents)
        noisy = a.sqrt() * latents[chosen] + (1 - a).sqrt() * noise
        with torch.set_grad_enabled(config.prior_weight > 0):
            anchor_prediction = student(noisy, t, clean).sample
        gap = ablation_loss(student(noisy, t, toxic).sample, anchor_prediction)
        prior = (anchor_prediction - noise).square().mean()
        return {"loss": gap + config.prior_weight * prior, "gap": gap, "prior": prior}

    with bos_detached(student):
        seconds = fit(f"ablate {kind}", work / f"{kind}.pt", learning, losses, config)
    return student.eval().requires_grad_(False), seconds


def write(
    out: Path, kind: str, student: UNet2DConditionModel, backbone: Backbone, config: AblationConfig, seconds: float
) -> None:
    """The artefact that `baselines.concept_ablation` reads."""
    training = {
        "seconds": round(seconds, 1),
        "images": config.anchors,
        "command": command("train.concept_ablation", kind, config),
        "settings": asdict(config),
        "parameter_group": config.parameter_group,
    }
    if config.parameter_group == "full-weight":
        save_unet(unet_path(out, kind), student.state_dict(), backbone.unet)
    save_projection(out / f"{kind}.safetensors", projection_weights(student), backbone.unet, training)


def main() -> None:
    args, config = command_line("train.concept_ablation", __doc__.split("\n\n")[0], AblationConfig(), TOXIC_KINDS)
    torch.set_num_threads(args.threads)
    world = load_world()
    backbone = only_stable_diffusion(
        load_backbone(args.backbone, dtype=torch.float32), "python -m train.concept_ablation"
    )
    work = run_folder(args.work, backbone, config)
    anchors = draw_anchors(world, config.anchors, config.seed)
    path = work.parent / f"anchors_{config.anchors}_{config.seed}.pt"  # whatever the other settings
    prompts = [anchor.prompt(world) for anchor in anchors]
    latents, generating = anchor_latents(Engine(backbone), prompts, path, seed=config.seed)
    out = args.out or backbone.folder / "concept_ablation"
    for kind in args.principles:
        student, training = ablate(backbone, world, kind, anchors, latents, config, work)
        write(out, kind, student, backbone, config, generating + training)
        print(f"written to {out / kind}.safetensors")


if __name__ == "__main__":
    main()
