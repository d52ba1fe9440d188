"""`python -m train.value_encoder`: trains a value encoder with the margin loss of Eq. 6 on the drawn world.

Everything but the value encoder is frozen. Of each pair both images get the same noise and timestep; the reference
reads the prompt's 77 tokens, the trained model the value token before them. `train/dpo.py` is the same with another
loss.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import inspect
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from livo.backbones import Backbone, BackboneError, load_backbone
from livo.classifiers.judge import JudgeError, load_judge
from livo.engine import Engine
from livo.miniature.world import World, load_world
from livo.principles import load_principles
from livo.types import InputError
from livo.value_encoder import ValueEncoder, save_value_encoder
from train.loop import descend, train
from train.losses import livo_loss
from train.miniature.data import render_batch
from train.preference import Pair, PairMaker, concept_prompts, measure_shares, weights_digest
from train.projection import encode_images, noise_schedule

Loss = Callable[..., Tensor]
"""A function of `train/losses.py`: four (N,) errors, and constants by keyword -> (N,) losses."""


@dataclass(frozen=True)
class Config:
    """Settings of one run, the same for every loss so that losses can be compared; they fit the miniature."""

    num_steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.batch_size < 1:
            raise InputError(f"{self.num_steps} steps of {self.batch_size} pairs train nothing: give 1 or more of each")


def constants(loss: Loss) -> dict[str, float]:
    """A loss's constants by name: the defaults of its keywords, or what a `functools.partial` of it sets.

    Example:
        >>> constants(functools.partial(livo_loss, beta=10.0))
        {'beta': 10.0, 'alpha': 500.0, 'gamma_1': 1.0, 'gamma_2': 0.5}
    """
    parameters = inspect.signature(loss).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def denoising_errors(
    unet: UNet2DConditionModel, alphas_cumprod: Tensor, latents: Tensor, noise: Tensor, t: Tensor, context: Tensor
) -> Tensor:
    """(N,) mean squared errors of the predicted noise, one per latent; N timesteps, contexts (N, L, D)."""
    alphas = alphas_cumprod[t].view(-1, 1, 1, 1)
    noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
    return (unet(noisy, t, context).sample - noise).square().mean((1, 2, 3))


def encode_scenes(backbone: Backbone, world: World, pairs: Sequence[Pair]) -> Tensor:
    """(2 N, 4, h, w) scaled latents: the chosen pictures of N pairs, then the rejected ones."""
    return encode_images(backbone, render_batch(world, [p.chosen for p in pairs] + [p.rejected for p in pairs]))


def train_value_encoder(
    backbone: Backbone, maker: PairMaker, config: Config, work: Path, loss: Loss = livo_loss
) -> tuple[ValueEncoder, list[dict[str, float]]]:
    """Train E^v from a copy of the backbone's text encoder.

    Args:
        backbone: frozen, on the CPU in float32.
        maker: draws the pairs.
        work: its sub-folder for this very run holds the state to resume from and the log. The sub-folder's name has a
            digest of all that the run depends on, so that another backbone, data or setting never resumes from it.
        loss: of `train/losses.py`, or a `functools.partial` of one with other constants.

    Returns:
        The trained encoder, and `train.loop.train`'s log, whose last "seconds" are those of the whole training,
        rendering of the pictures included.
    """
    facts = {
        "loss": getattr(loss, "func", loss).__name__,
        "constants": constants(loss),
        "config": asdict(config),
        "backbone": weights_digest(backbone.text_encoder, backbone.unet, backbone.vae),
        "pairs": maker.digest(),
    }
    folder = work / f"{facts['loss']}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]}"
    torch.manual_seed(config.seed)
    encoder = ValueEncoder.untrained(backbone)
    encoder.model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(encoder.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    alphas = noise_schedule(backbone)

    def step(i: int) -> dict[str, float]:
        rng = random.Random(f"{config.seed} {i}")
        torch.manual_seed(90_000 + 1_000_000 * config.seed + i)
        pairs = [maker.pair(rng) for _ in range(config.batch_size)]
        latents = encode_scenes(backbone, maker.world, pairs)
        noise = torch.randn(len(pairs), *latents.shape[1:]).repeat(2, 1, 1, 1)
        t = torch.randint(0, 1000, (len(pairs),)).repeat(2)
        with torch.no_grad():
            ids = torch.cat([backbone.tokenize(p.prompt) for p in pairs])
            prompt_embeds = backbone.text_encoder(ids).last_hidden_state
            reference = denoising_errors(backbone.unet, alphas, latents, noise, t, prompt_embeds.repeat(2, 1, 1))
        value_ids = torch.cat([encoder.tokenize(p.principle.text, p.prompt) for p in pairs])
        context = torch.cat([encoder.pooled(value_ids)[:, None], prompt_embeds], dim=1)
        errors = denoising_errors(backbone.unet, alphas, latents, noise, t, context.repeat(2, 1, 1))
        (mse_w, mse_l), (ref_w, ref_l) = errors.chunk(2), reference.chunk(2)
        total = loss(mse_w, ref_w, mse_l, ref_l).mean()
        share = min(1.0, (i + 1) / 50, max(0.05, 2 * (1 - i / config.num_steps)))
        descend(total, optimizer, config.learning_rate * share)
        return {
            "loss": total.item(),
            "chosen better": (mse_w < ref_w).float().mean().item(),
            "rejected worse": (mse_l > ref_l).float().mean().item(),
            "chosen drift": (mse_w - ref_w).mean().item(),
            "rejected drift": (mse_l - ref_l).mean().item(),
        }

    parts = {"value_encoder": encoder.model, "optimizer": optimizer}
    log = train(facts["loss"], folder / "state.pt", parts, config.num_steps, step)
    (folder / "log.json").write_text(json.dumps(facts | {"log": log}, indent=1))
    encoder.model.eval().requires_grad_(False)
    return encoder, log


def load_data(name: str, work: Path) -> tuple[Backbone, PairMaker]:
    """The backbone `name` and pairs of the drawn world in which it is biased, as its own judge sees it.

    Raises:
        InputError: the backbone has no folder or no judge.
        BackboneError, JudgeError: files are missing or broken.
    """
    backbone = load_backbone(name, "cpu", torch.float32)
    if backbone.folder is None:
        raise InputError(f"backbone {name} comes from the hub: download it, and give its folder with --backbone")
    if not (folder := backbone.folder / "evaluator").is_dir():
        raise InputError(
            f"{folder} is missing: without a judge nobody knows which side of a pair the backbone prefers; "
            f"`python -m train.miniature --stages evaluator --out {backbone.folder}` makes one for the drawn world"
        )
    world, judge = load_world(), load_judge(folder)
    shares = measure_shares(Engine(backbone), judge, concept_prompts(world), work / "shares.json")
    return backbone, PairMaker(world, load_principles(), shares)


def run(parser: argparse.ArgumentParser, name: str, loss: Loss, arguments: Sequence[str] | None = None) -> None:
    """A command line that trains with `loss` and writes the encoder to `name` in the backbone's folder.

    Its flags are the fields of `Config`, the loss's constants, and those that the parser already has.
    """
    parser.add_argument("--backbone", default="miniature", help="miniature, or a diffusers folder with an evaluator/")
    parser.add_argument("--work", type=Path, default=Path("runs/value_encoder"), help="to resume from (%(default)s)")
    parser.add_argument("--out", type=Path, help=f"default: {name}/ in the backbone's folder")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    elsewhere = {"backbone", "work", "out", "threads"}  # what does not change the result, or names a place
    for key, default in (asdict(Config()) | constants(loss)).items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(default), default=default, help="(%(default)s)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    try:
        config = Config(**{key: getattr(args, key) for key in asdict(Config())})
        backbone, maker = load_data(args.backbone, args.work)
    except (InputError, BackboneError, JudgeError) as error:
        sys.exit(f"{parser.prog}: {error}")
    loss = functools.partial(loss, **{key: getattr(args, key) for key in constants(loss)})
    encoder, log = train_value_encoder(backbone, maker, config, args.work, loss)
    flags = [
        f"--{key.replace('_', '-')} {value}"
        for key, value in vars(args).items()
        if key not in elsewhere and value != parser.get_default(key)
    ]
    training = {
        "seconds": log[-1]["seconds"],
        "images": 2 * config.num_steps * config.batch_size,
        "steps": config.num_steps,
        "command": " ".join([parser.prog, *flags]),
    }
    out = args.out or backbone.folder / name
    save_value_encoder(encoder.model, out, half=True, training=training)
    print(f"written to {out}")


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m train.value_encoder`."""
    parser = argparse.ArgumentParser(prog="python -m train.value_encoder", description=__doc__.split("\n\n")[0])
    run(parser, "value_encoder", livo_loss, arguments)


if __name__ == "__main__":
    main()
