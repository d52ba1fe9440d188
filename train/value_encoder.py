"""`python -m train.value_encoder`: trains a value encoder with the margin loss of Eq. 6 on the drawn world.

Everything but the value encoder is frozen. Of each pair both images get the same noise and timestep; the reference
reads the prompt's 77 tokens, the trained model the value token before them.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor

from livo.backbones import Backbone, load_backbone
from livo.classifiers.judge import load_judge
from livo.engine import Engine
from livo.miniature.world import load_world
from livo.principles import load_principles
from livo.value_encoder import ValueEncoder, save_value_encoder
from train.loop import train
from train.losses import livo_loss
from train.miniature.data import render_batch, to_model_range
from train.preference import Pair, PairMaker, concept_prompts, measure_shares


@dataclass(frozen=True)
class Config:
    """Settings of one run; the loss's are the paper's, the others fit the miniature."""

    num_steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    beta: float = 1000.0
    alpha: float = 500.0
    gamma_1: float = 1.0
    gamma_2: float = 0.5
    seed: int = 0


def denoising_errors(
    unet: UNet2DConditionModel, alphas_cumprod: Tensor, latents: Tensor, noise: Tensor, t: Tensor, context: Tensor
) -> Tensor:
    """(N,) mean squared errors of the predicted noise, one per latent; N timesteps, contexts (N, L, D)."""
    alphas = alphas_cumprod[t].view(-1, 1, 1, 1)
    noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
    return (unet(noisy, t, context).sample - noise).square().mean((1, 2, 3))


@torch.no_grad()
def encode_scenes(backbone: Backbone, world, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Latents of the chosen and of the rejected pictures, (N, 4, h, w) each, scaled."""
    images = render_batch(world, [p.chosen for p in pairs] + [p.rejected for p in pairs])
    moments = backbone.vae.encode(to_model_range(images)).latent_dist
    return (moments.sample() * backbone.vae.config.scaling_factor).chunk(2)


def train_value_encoder(backbone: Backbone, maker: PairMaker, config: Config, work: Path) -> ValueEncoder:
    """Train E^v from a copy of the backbone's text encoder; resumes from `work`."""
    torch.manual_seed(config.seed)
    encoder = ValueEncoder.untrained(backbone)
    encoder.model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(encoder.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    alphas = DPMSolverMultistepScheduler.from_config(backbone.scheduler_config).alphas_cumprod.to(backbone.device)

    def step(i: int) -> dict[str, float]:
        rng = random.Random(f"{config.seed} {i}")
        torch.manual_seed(90_000 + 1_000_000 * config.seed + i)
        pairs = [maker.pair(rng) for _ in range(config.batch_size)]
        w, l = encode_scenes(backbone, maker.world, pairs)
        noise = torch.randn(w.shape, device=w.device).repeat(2, 1, 1, 1)  # randn_like would follow the memory layout
        t = torch.randint(0, 1000, (len(pairs),)).repeat(2)
        with torch.no_grad():
            ids = torch.cat([backbone.tokenize(p.prompt) for p in pairs])
            prompt_embeds = backbone.text_encoder(ids).last_hidden_state
            reference = denoising_errors(backbone.unet, alphas, torch.cat([w, l]), noise, t, prompt_embeds.repeat(2, 1, 1))
        value_ids = torch.cat([encoder.tokenize(p.principle.text, p.prompt) for p in pairs])
        context = torch.cat([encoder.pooled(value_ids)[:, None], prompt_embeds], dim=1)
        errors = denoising_errors(backbone.unet, alphas, torch.cat([w, l]), noise, t, context.repeat(2, 1, 1))
        (mse_w, mse_l), (ref_w, ref_l) = errors.chunk(2), reference.chunk(2)
        weights = {key: getattr(config, key) for key in ("beta", "alpha", "gamma_1", "gamma_2")}
        loss = livo_loss(mse_w, ref_w, mse_l, ref_l, **weights).mean()
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (i + 1) / 50, max(0.05, 2 * (1 - i / config.num_steps)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.model.parameters(), 1.0)
        optimizer.step()
        return {
            "loss": loss.item(),
            "chosen past margin": (mse_w <= ref_w - config.gamma_1 / config.beta).float().mean().item(),
            "rejected past margin": (mse_l >= ref_l + config.gamma_2 / config.alpha).float().mean().item(),
            "chosen drift": (mse_w - ref_w).mean().item(),
            "rejected drift": (mse_l - ref_l).mean().item(),
        }

    parts = {"value_encoder": encoder.model, "optimizer": optimizer}
    log = train("value encoder", work / "value_encoder.pt", parts, config.num_steps, step)
    (work / "value_encoder_log.json").write_text(json.dumps({"config": asdict(config), "log": log}, indent=1))
    encoder.model.eval().requires_grad_(False)
    return encoder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m train.value_encoder", description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--work", type=Path, default=Path("runs/value_encoder"), help="checkpoints, to resume from")
    parser.add_argument("--out", type=Path, help="default: value_encoder/ in the backbone's folder")
    parser.add_argument("--threads", type=int, default=2)
    for name, value in asdict(Config()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = Config(**{name: getattr(args, name) for name in asdict(Config())})
    args.work.mkdir(parents=True, exist_ok=True)
    world, backbone = load_world(), load_backbone(args.backbone)
    judge = load_judge(backbone.folder / "evaluator")
    shares = measure_shares(Engine(backbone), judge, concept_prompts(world), args.work / "shares.json")
    encoder = train_value_encoder(backbone, PairMaker(world, load_principles(), shares), config, args.work)
    out = args.out or backbone.folder / "value_encoder"
    save_value_encoder(encoder.model, out, half=True)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
