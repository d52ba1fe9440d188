from __future__ import annotations

import functools
import json
import sys
import warnings

import pytest
import torch
from diffusers import StableDiffusionPipeline

import train.miniature.__main__ as command
from livo.classifiers.judge import load_judge
from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine, classifier_free_plan
from livo.miniature.world import load_world
from livo.types import Conditioning, SamplingOptions
from train.miniature import autoencoder, denoiser, evaluator, text_encoder
from train.miniature.data import Source, render_batch, scenes

WORLD = load_world()


def test_reconstruction_loss_is_zero_at_equality_and_sees_edges():
    x = torch.rand(2, 3, 8, 8)
    assert autoencoder.reconstruction_loss(x, x) == 0
    flat, edgy = x + 0.1, x + 0.1 * torch.sign(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    assert autoencoder.reconstruction_loss(x, edgy) > autoencoder.reconstruction_loss(x, flat) > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`python -m train.miniature` from nothing, a few steps and pictures a stage."""
    work = tmp_path_factory.mktemp("run")

    def few(world, seed, count):
        return scenes(world, seed, min(count, 32))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "FIRST", Source(few, render_batch))
        patch.setattr(
            command,
            "train_text_encoder",
            functools.partial(text_encoder.train_text_encoder, num_steps=12, batch_size=4),
        )
        patch.setattr(command, "train_denoiser", functools.partial(denoiser.train_denoiser, batch_size=8))
        patch.setattr(command, "train_evaluator", functools.partial(evaluator.train_evaluator, batch_size=8))
        options = [
            "--autoencoder-steps",
            "1",
            "--decoder-steps",
            "1",
            "--denoiser-steps",
            "2",
            "--evaluator-steps",
            "12",
            "--pictures",
            "500",
        ]
        patch.setattr(
            sys,
            "argv",
            ["train.miniature", "--work", str(work / "work"), "--out", str(work / "out"), "--threads", "1", *options],
        )
        command.main()
    return work / "out"


def test_plain_diffusers_loads_and_runs_it(folder):
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["scheduler"] == ["diffusers", "DPMSolverMultistepScheduler"] and index["safety_checker"] == [
        None,
        None,
    ]
    assert index["requires_safety_checker"] is False
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        pipeline = StableDiffusionPipeline.from_pretrained(folder)
    assert {p.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in part.parameters()} == {
        torch.float32
    }
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of a doctor", num_inference_steps=2, height=64, width=64).images[0]
    assert image.size == (64, 64)


def test_our_engine_runs_it_too(folder):
    backbone = load_backbone(str(folder), device="cpu")
    assert backbone.defaults.height == 64 and backbone.max_length == 77 and backbone.vae_scale == 4
    assert len(backbone.vae.config["latent_rgb"]) == 5, "the previews' map is stored"
    engine = Engine(backbone)
    plan = classifier_free_plan(
        engine, [Conditioning(engine.encode_prompt("a photo of a doctor"))], SamplingOptions((0,), 2, 2.0, 64, 64)
    )
    assert engine.generate({"sd": plan})["sd"].shape == (1, 3, 64, 64)


def test_only_safetensors_in_files_small_enough_for_the_repository(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 10_000_000 for path in files)
    assert sum(path.stat().st_size for path in files) < 40_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt"}
    halves = [path for path in files if path.suffix == ".safetensors"]
    assert len(halves) >= 5, "U-Net in shards, VAE, text encoder, evaluator"


def test_the_evaluator_beside_it_loads(folder):
    judge = load_judge(folder / "evaluator")
    images = render_batch(WORLD, [scene for scene, _ in scenes(WORLD, 0, 2)])
    assert judge(images, "gender").probs.shape == (2, 2)


def test_an_unknown_stage_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.miniature", "--stages", "generator,judge"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2 and "unknown stage 'judge'; there are: generator, evaluator" in capsys.readouterr().err
