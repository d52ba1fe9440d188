"""`python -m train.miniature.second`: the second edition's generator and evaluator, a stage after the other.

text          captions                                          -> tokenizer, text_encoder
autoencoder   pictures                                          -> vae
denoiser      latents of pictures, embeddings of captions       -> unet, scheduler, model_index.json
decoder       the denoiser's own estimates                      -> vae, the decoder alone
evaluator     pictures, never the generator's                   -> evaluator

A stage reads what earlier ones left in --out, so they may be run on different days; a killed one resumes from --work.
Each file says in its header how it was made (`python -m train.verify`).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from livo.classifiers.clip import EVALUATOR_CONFIG, world_questions
from livo.classifiers.judge import save_judge
from livo.command_line import add_fields, read_fields
from livo.diffusion.backbones import ASSETS
from livo.miniature.second.captions import vocabulary
from livo.miniature.second.world import load_world
from train.lineage import Lineage, digest, stamp, this_command, this_commit
from train.miniature.denoiser import (
    build_noise_schedule,
    encode_captions,
    encode_pictures,
    estimate_clean,
    train_denoiser,
)
from train.miniature.evaluator import train_evaluator
from train.miniature.pictures import SECOND, keep_pictures, scenes
from train.miniature.second.autoencoder import measure_latents, polish_decoder, train_autoencoder
from train.miniature.sharpness import load
from train.miniature.text_encoder import principle_words, tokenize, train_text_encoder
from train.miniature.vocabulary import keep_tokenizer, write_tokenizer_files

WORLD = "livo/miniature/second/world.yaml"
DRAWINGS = "livo/miniature/second/drawings.yaml"
ENCODER = "vae#encoder.,quant_conv."
CONFIG: dict[str, Any] = copy.deepcopy(EVALUATOR_CONFIG)
CONFIG["vision_cfg"]["image_size"] = 128


@dataclass(frozen=True)
class Settings:
    """Steps of each stage, batch sizes and sizes of data sets."""

    text_steps: int = 1000
    autoencoder_steps: int = 12_000
    kept_pictures: int = 10_000
    latents: int = 60_000
    denoiser_steps: int = 4000
    denoiser_batch: int = 64
    decoder_steps: int = 2000
    evaluator_steps: int = 1600
    evaluator_batch: int = 96


HELP = {
    "text_steps": "captions 128 a step",
    "autoencoder_steps": "pictures 16 a step",
    "kept_pictures": "pictures drawn once for the autoencoder and the decoder",
    "latents": "pictures that the denoiser learns from",
    "denoiser_steps": "steps of the denoiser",
    "denoiser_batch": "latents a step",
    "decoder_steps": "pictures 8 a step",
    "evaluator_steps": "steps of the evaluator",
    "evaluator_batch": "pictures a step",
}
QUICK = Settings(150, 250, 500, 2000, 300, 32, 40, 120, 32)
"""A poor but whole world in ten minutes on two cores."""


@dataclass(frozen=True)
class Run:
    """Where a run keeps its state and leaves its models, and how it is told of in their headers."""

    work: Path
    out: Path
    settings: Settings
    threads: int
    start: Path | None = None

    def leave(self, name: str, steps: int, *sources: str) -> None:
        """Say in the headers of `out / name` that it was made in so many steps from `sources`."""
        made_from = {source: digest(source, self.out) for source in sources}
        stamp(self.out / name, Lineage(this_command(), this_commit(), 0, self.threads, steps, made_from))

    def pictures(self) -> tuple[np.ndarray, list[str]]:
        """The kept pictures with the captions of their scenes."""
        world = load_world()
        drawn = scenes(world, 20_000, self.settings.kept_pictures)
        kept = keep_pictures(world, [scene for scene, _ in drawn], self.work / "pictures.npy")
        return kept, [text for _, text in drawn]

    def text_encoder(self) -> CLIPTextModel:
        return CLIPTextModel.from_pretrained(self.out / "text_encoder").eval()

    def tokenizer(self) -> CLIPTokenizer:
        return CLIPTokenizer.from_pretrained(self.out / "tokenizer")


def load_unet(folder: Path) -> UNet2DConditionModel:
    """The denoiser of a model's folder, in float32."""
    return UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()


def make_text_encoder(run: Run) -> None:
    world = load_world()
    tokenizer = keep_tokenizer(sorted({*vocabulary(world), *principle_words()}), run.work / "tokenizer")
    model = train_text_encoder(world, SECOND, tokenizer, run.work, num_steps=run.settings.text_steps)
    tokenizer.save_pretrained(run.out / "tokenizer")
    write_tokenizer_files(tokenizer, run.out / "tokenizer")
    model.save_pretrained(run.out / "text_encoder")
    run.leave("text_encoder", run.settings.text_steps, WORLD, "tokenizer/tokenizer.json")


def make_autoencoder(run: Run) -> None:
    pictures, _ = run.pictures()
    start = None if run.start is None else load(run.start)
    vae = train_autoencoder(pictures, run.work, num_steps=run.settings.autoencoder_steps, start=start)
    measure_latents(vae, pictures)
    vae.half().save_pretrained(run.out / "vae")
    run.leave("vae", run.settings.autoencoder_steps, WORLD, DRAWINGS)


def make_denoiser(run: Run) -> None:
    settings, tokenizer, text_encoder, vae = run.settings, run.tokenizer(), run.text_encoder(), load(run.out)
    latents, captions = encode_pictures(load_world(), SECOND, vae, run.work, count=settings.latents)
    embeds = encode_captions(text_encoder, tokenizer, captions)
    empty = encode_captions(text_encoder, tokenizer, [""])[0].float()
    start = None if run.start is None else load_unet(run.start)
    unet = train_denoiser(
        run.work,
        latents,
        embeds,
        empty,
        num_steps=settings.denoiser_steps,
        batch_size=settings.denoiser_batch,
        start=start,
    )
    scheduler = DPMSolverMultistepScheduler.from_config(
        build_noise_schedule().config, timestep_spacing="linspace", steps_offset=1
    )
    # Half the size on disk; diffusers widens these two when it loads them, transformers would leave a half one so.
    pipeline = StableDiffusionPipeline(
        vae.half(), text_encoder, tokenizer, unet.half(), scheduler, None, None, requires_safety_checker=False
    )
    unet.save_pretrained(run.out / "unet", max_shard_size="9MB")
    scheduler.save_pretrained(run.out / "scheduler")
    pipeline.save_config(run.out)
    run.leave("unet", settings.denoiser_steps, WORLD, DRAWINGS, "text_encoder", ENCODER)


def make_decoder(run: Run) -> None:
    vae, text_encoder, tokenizer = load(run.out), run.text_encoder(), run.tokenizer()
    unet = load_unet(run.out)

    def estimate(latents: Tensor, captions: list[str]) -> Tensor:
        return estimate_clean(unet, latents, text_encoder(tokenize(tokenizer, captions)).last_hidden_state)

    pictures, captions = run.pictures()
    polish_decoder(pictures, captions, vae, estimate, run.work, num_steps=run.settings.decoder_steps)
    vae.half().save_pretrained(run.out / "vae")
    run.leave("vae", run.settings.autoencoder_steps + run.settings.decoder_steps, WORLD, DRAWINGS, "unet")


def make_evaluator(run: Run) -> None:
    world, settings = load_world(), run.settings
    model = train_evaluator(
        world, SECOND, run.work, config=CONFIG, num_steps=settings.evaluator_steps, batch_size=settings.evaluator_batch
    )
    save_judge(model, CONFIG, world_questions(world), run.out / "evaluator")
    run.leave("evaluator", settings.evaluator_steps, WORLD, DRAWINGS)


STAGES: Mapping[str, Callable[[Run], None]] = {
    "text": make_text_encoder,
    "autoencoder": make_autoencoder,
    "denoiser": make_denoiser,
    "decoder": make_decoder,
    "evaluator": make_evaluator,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m train.miniature.second", description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/miniature_second"), help="checkpoints, to resume from")
    parser.add_argument("--out", type=Path, default=ASSETS / "miniature_second", help="where finished models go")
    parser.add_argument("--stages", default=",".join(STAGES), help="which to run, by comma (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a poor but whole world in ten minutes")
    parser.add_argument("--start-from", type=Path, help="a model whose vae and unet these two stages start from")
    parser.add_argument("--threads", type=int, default=2)
    add_fields(parser, Settings(), HELP, optional=[field.name for field in dataclasses.fields(Settings)])
    args = parser.parse_args()
    stages = args.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"unknown stage {sorted(unknown)[0]!r}; there are: {', '.join(STAGES)}")
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    settings = read_fields(QUICK if args.quick else Settings(), args)
    run = Run(args.work, args.out, settings, args.threads, args.start_from)
    for name, make in STAGES.items():
        if name in stages:
            began = time.perf_counter()
            make(run)
            print(f"{name}: {time.perf_counter() - began:.0f} s, left in {args.out}")


if __name__ == "__main__":
    main()
