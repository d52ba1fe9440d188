"""`python -m train.miniature`: every stage in turn, each resumed where a kill left it.

tokenizer -> text encoder -> autoencoder -> denoiser -> the autoencoder's decoder again -> folder in diffusers format
evaluator -> folder in open_clip format
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from torch import Tensor

from livo.classifiers.clip import EVALUATOR_CONFIG, world_questions
from livo.classifiers.judge import save_judge
from livo.diffusion.backbones import ASSETS
from livo.miniature.captions import vocabulary
from livo.miniature.world import load_world
from train.miniature.autoencoder import polish_decoder, train_autoencoder
from train.miniature.data import FIRST
from train.miniature.denoiser import (
    build_noise_schedule,
    encode_captions,
    encode_pictures,
    estimate_clean,
    finished_denoiser,
    train_denoiser,
)
from train.miniature.evaluator import train_evaluator
from train.miniature.text_encoder import principle_words, tokenize, train_text_encoder
from train.miniature.vocabulary import keep_tokenizer, write_tokenizer_files


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m train.miniature", description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/miniature"), help="checkpoints, to resume from")
    parser.add_argument("--out", type=Path, default=ASSETS / "miniature", help="where the finished models go")
    parser.add_argument("--stages", default="generator,evaluator", help="which to run: generator, evaluator or both")
    parser.add_argument("--autoencoder-steps", type=int, default=1800)
    parser.add_argument("--decoder-steps", type=int, default=1100)
    parser.add_argument("--denoiser-steps", type=int, default=6400)
    parser.add_argument("--evaluator-steps", type=int, default=1500)
    parser.add_argument("--pictures", type=int, default=100_000, help="size of the denoiser's data set")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    stages = args.stages.split(",")
    if unknown := set(stages) - {"generator", "evaluator"}:
        parser.error(f"unknown stage {sorted(unknown)[0]!r}; there are: generator, evaluator")
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    world = load_world()

    if "generator" in stages:
        tokenizer = keep_tokenizer(sorted({*vocabulary(world), *principle_words()}), args.work / "tokenizer")
        text_encoder = train_text_encoder(world, FIRST, tokenizer, args.work)
        vae = train_autoencoder(world, FIRST, args.work, num_steps=args.autoencoder_steps)
        unet = finished_denoiser(args.work, args.denoiser_steps)
        if unet is None:
            latents, captions = encode_pictures(world, FIRST, vae, args.work, count=args.pictures)
            embeds = encode_captions(text_encoder, tokenizer, captions)
            empty = encode_captions(text_encoder, tokenizer, [""])[0].float()
            unet = train_denoiser(args.work, latents, embeds, empty, num_steps=args.denoiser_steps)

        def estimate(latents: Tensor, captions: list[str]) -> Tensor:
            return estimate_clean(unet, latents, text_encoder(tokenize(tokenizer, captions)).last_hidden_state)

        polish_decoder(world, FIRST, vae, estimate, args.work, num_steps=args.decoder_steps)
        scheduler = DPMSolverMultistepScheduler.from_config(
            build_noise_schedule().config, timestep_spacing="linspace", steps_offset=1
        )
        # Half the size on disk; diffusers widens these two when it loads them, transformers would leave a half one so.
        pipeline = StableDiffusionPipeline(
            vae.half(), text_encoder, tokenizer, unet.half(), scheduler, None, None, requires_safety_checker=False
        )
        pipeline.save_pretrained(args.out, max_shard_size="9MB")
        write_tokenizer_files(tokenizer, args.out / "tokenizer")

    if "evaluator" in stages:
        model = train_evaluator(world, FIRST, args.work, num_steps=args.evaluator_steps)
        save_judge(model, EVALUATOR_CONFIG, world_questions(world), args.out / "evaluator")
    print(f"written to {args.out}; `python -m train.measure` measures it")


if __name__ == "__main__":
    main()
