"""`python -m train.miniature.sharpness`: how sharp pictures are at 128 pixels, in one table.

Mean absolute error of pixels and of their gradients on scenes that no training drew, of the autoencoder and of 64
pixels enlarged without any, which no model of 64 pixels can beat. Kept as `sharpness.json` beside the weights; the
first edition's rows there, its pictures enlarged, were measured while its weights stood beside.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from livo.diffusion.backbones import ASSETS
from livo.miniature.second.renderer import SIZE
from livo.miniature.second.world import load_world
from train.miniature.data import to_model_range
from train.miniature.pictures import SECOND

SEED = 900_000  # of scenes that no training draws


@torch.no_grad()
def sharpness(original: Tensor, shown: Tensor) -> dict[str, float]:
    """How far shown pictures are from the drawn ones: mean absolute error of pixels and of their gradients.

    Args:
        original, shown: (N, 3, H, W) in [-1, 1].

    Returns:
        "L1", and "gradient L1": of the differences between neighbours, across and down, averaged. Lower is better.
    """
    error = shown - original
    gradients = torch.stack([error.diff(dim=-1).abs().mean(), error.diff(dim=-2).abs().mean()])
    return {"L1": error.abs().mean().item(), "gradient L1": gradients.mean().item()}


def enlarged(images: Tensor) -> Tensor:
    """(N, 3, 128, 128) of smaller ones, as a page would show them: bicubic."""
    return nn.functional.interpolate(images, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(-1, 1)


def reduced(images: Tensor) -> Tensor:
    """(N, 3, 64, 64) of (N, 3, 128, 128), as the first edition's renderer reduces its own."""
    return nn.functional.avg_pool2d(images, 2)


@torch.no_grad()
def rebuilt(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Pictures through an autoencoder and back."""
    return torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in images.split(16)]).clamp(-1, 1)


def measure(vae: AutoencoderKL, count: int) -> dict[str, dict[str, float]]:
    """The second edition's rows."""
    world = load_world()
    drawn = [scene for scene, _ in SECOND.scenes(world, SEED, count)]
    pictures = to_model_range(SECOND.pictures(world, drawn))
    return {
        "second edition, 64 pixels enlarged": sharpness(pictures, enlarged(reduced(pictures))),
        "second edition, its autoencoder": sharpness(pictures, rebuilt(vae, pictures)),
    }


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """The table."""
    lines = ["| pictures at 128 pixels, range [-1, 1] | L1 | gradient L1 |", "|---|---|---|"]
    lines += [f"| {name} | {row['L1']:.3f} | {row['gradient L1']:.3f} |" for name, row in rows.items()]
    return "\n".join(lines)


def load(folder: Path) -> AutoencoderKL:
    """A model's autoencoder in float32."""
    return AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m train.miniature.sharpness", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ASSETS / "miniature_second")
    parser.add_argument("--count", type=int, default=128, help="scenes of each edition (%(default)s)")
    args = parser.parse_args()
    path = args.folder / "sharpness.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    rows = before | measure(load(args.folder), args.count)
    found: dict[str, Any] = {"scenes": args.count, "seed": SEED, "rows": rows}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
