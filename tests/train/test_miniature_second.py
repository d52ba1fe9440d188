from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

import train.miniature.second.__main__ as command
from livo.classifiers.judge import load_judge
from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine, classifier_free_plan
from livo.miniature.second.world import load_world
from livo.types import Conditioning, SamplingOptions
from train.miniature import sharpness
from train.miniature.pictures import batch_of, keep_pictures, render_batch, scenes
from train.miniature.second import autoencoder
from train.miniature.text_encoder import caption_labels
from train.verify import faults

WORLD = load_world()


def test_pictures_are_drawn_once_and_dealt_out_evenly(tmp_path):
    drawn = [scene for scene, _ in scenes(WORLD, 1, 12)]
    kept = keep_pictures(WORLD, drawn, tmp_path / "pictures.npy")
    assert kept.shape == (12, 3, 128, 128) and torch.equal(
        torch.from_numpy(kept[:3].copy()), render_batch(WORLD, drawn[:3])
    )
    assert np.array_equal(keep_pictures(None, drawn, tmp_path / "pictures.npy"), kept), "nothing is drawn again"
    with pytest.raises(ValueError, match="holds 12 pictures and 11 are wanted"):
        keep_pictures(WORLD, drawn[:11], tmp_path / "pictures.npy")
    epoch = [k for step in range(3) for k in batch_of(kept, 4, step)[1]]
    assert sorted(epoch) == list(range(12)) and batch_of(kept, 4, 3)[1] != batch_of(kept, 4, 0)[1]
    x, chosen = batch_of(kept, 4, 0)
    assert (
        x.min() >= -1
        and x.max() <= 1
        and torch.allclose((x + 1) * 127.5, torch.from_numpy(kept[chosen]).float(), atol=1e-3)
    )


def test_the_autoencoder_is_one_that_diffusers_loads(tmp_path):
    vae = autoencoder.build_autoencoder()
    vae.save_pretrained(tmp_path)
    loaded = AutoencoderKL.from_pretrained(tmp_path)
    with torch.no_grad():
        latents = loaded.encode(torch.zeros(1, 3, 128, 128)).latent_dist.mean
        assert latents.shape == (1, 8, 16, 16) and loaded.decode(latents).sample.shape == (1, 3, 128, 128)
    assert sum(p.numel() for p in vae.parameters()) < 2_000_000


def test_crops_lie_on_the_latents_grid_and_anywhere_on_it():
    torch.manual_seed(0)
    place = (torch.arange(128)[:, None] * 1000 + torch.arange(128)).expand(400, 1, 128, 128)
    crops = autoencoder.cropped(place)
    assert crops.shape == (400, 1, 64, 64)
    corners = crops[:, 0, 0, 0]
    tops, lefts = corners // 1000, corners % 1000
    assert set(tops.tolist()) == set(lefts.tolist()) == set(range(0, 65, 8))
    assert (crops[:, 0, -1, -1] == corners + 63 * 1001).all()


def test_at_first_no_residual_branch_speaks():
    vae = autoencoder.build_autoencoder()
    block = vae.decoder.up_blocks[-1].resnets[-1]
    x = torch.randn(1, 16, 8, 8)
    assert torch.equal(block(x, None), x)


def test_edges_weigh_more_than_walls_and_weights_average_to_one():
    x = torch.full((1, 3, 32, 32), -0.5)
    x[..., 12:20, 12:20] = 0.5
    weight = autoencoder.detail_weight(x)
    assert weight.shape == (1, 1, 32, 32) and weight.mean().item() == pytest.approx(1)
    assert weight[0, 0, 12, 12] > 2.5 * weight[0, 0, 2, 2]
    assert autoencoder.detail_weight(torch.zeros(1, 3, 8, 8)).allclose(torch.ones(1, 1, 8, 8))


def test_a_wrong_colour_weighs_more_than_a_wrong_grey_and_its_pull_grows_with_the_error():
    grey = torch.zeros(1, 3, 8, 8)
    assert (autoencoder.opponent(grey + 0.3) == 0).all()
    tint = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1)
    assert autoencoder.opponent(tint.expand(1, 3, 8, 8)).square().mean() == pytest.approx(1.05**2 * 2)
    loss = [autoencoder.reconstruction_loss(grey, grey + size * tint).item() for size in (0.1, 0.2)]
    assert loss[1] > 2.5 * loss[0], "an L1 loss alone would double"
    assert loss[0] > autoencoder.reconstruction_loss(grey, grey + 0.2 / 3)


def test_the_loss_is_zero_at_equality_and_prefers_a_sharp_edge_to_a_soft_one():
    x = torch.full((1, 3, 32, 32), -1.0)
    x[..., 16:] = 1
    soft = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
    flat = x + (soft - x).abs().mean()
    assert autoencoder.reconstruction_loss(x, x) == 0
    assert autoencoder.reconstruction_loss(x, soft) > 1.5 * autoencoder.reconstruction_loss(x, flat) > 0


def test_sharpness_by_hand():
    x = torch.zeros(1, 3, 4, 4)
    assert sharpness.sharpness(x, x) == {"L1": 0, "gradient L1": 0}
    y = x.clone()
    y[..., 1::2] = 1
    assert sharpness.sharpness(x, y) == {"L1": 0.5, "gradient L1": 0.5}


def test_the_table_of_sharpness(folder, monkeypatch, capsys):
    kept = {"scenes": 9, "seed": 0, "rows": {"another's": {"L1": 0.5, "gradient L1": 0.25}}}
    (folder / "sharpness.json").write_text(json.dumps(kept), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["x", "--folder", str(folder), "--count", "4"])
    sharpness.main()
    rows = json.loads((folder / "sharpness.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 3 and "| another's | 0.500 | 0.250 |" in capsys.readouterr().out
    halves, through = rows["second edition, 64 pixels enlarged"], rows["second edition, its autoencoder"]
    assert 0 < halves["L1"] < 0.2 < through["L1"], "two steps of training draw nothing yet"


def test_captions_of_two_are_labelled():
    batch = scenes(WORLD, 5, 300)
    classes, names = caption_labels(WORLD, batch)["count"]
    assert classes == ["1", "2"] and [name == "2" for name in names] == ["two " in text for _, text in batch]
    genders = caption_labels(WORLD, batch)["gender"][1]
    assert {name for name, (_, text) in zip(genders, batch, strict=True) if " men" in text} <= {"male"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`python -m train.miniature.second` from nothing, a few steps and pictures a stage."""
    work = tmp_path_factory.mktemp("run")
    few = replace(command.QUICK, text_steps=2, autoencoder_steps=2, kept_pictures=16, latents=1, denoiser_steps=2,
                  denoiser_batch=4, decoder_steps=2, evaluator_steps=2, evaluator_batch=4)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "QUICK", few)
        patch.setattr(command, "SECOND", replace(command.SECOND, scenes=lambda w, seed, n: scenes(w, seed, min(n, 24))))
        patch.setattr(
            sys,
            "argv",
            [
                "x",
                "--quick",
                "--decoder-steps",
                "3",
                "--work",
                str(work / "work"),
                "--out",
                str(work / "out"),
                "--threads",
                "1",
            ],
        )
        command.main()
    return work / "out"


def test_plain_diffusers_and_our_engine_run_it(folder):
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    ours = Engine(load_backbone(str(folder), device="cpu"))
    assert ours.backbone.vae_scale == 8 and ours.backbone.defaults.height == 128
    plan = classifier_free_plan(
        ours, [Conditioning(ours.encode_prompt("a photo of two doctors"))], SamplingOptions((0,), 2, 2.0, 128, 128)
    )
    assert ours.generate({"sd": plan})["sd"].shape == (1, 3, 128, 128)
    image = pipeline("a photo of two doctors", num_inference_steps=2, latents=noise, output_type="pt").images
    assert image.shape == (1, 3, 128, 128)


def test_the_judge_beside_it_reads_pictures_of_that_size(folder):
    judge = load_judge(folder / "evaluator")
    images = render_batch(WORLD, [scene for scene, _ in scenes(WORLD, 0, 2)])
    assert judge.model.visual.image_size == 128
    assert judge(images, "occupation").probs.shape == (2, len(WORLD.occupations) + 1)


def test_every_file_says_how_it_was_made_and_the_chain_holds(folder):
    wrong = [fault for fault in faults(folder) if "no commit holds" not in fault]  # a checkout at work may differ
    assert not wrong and len(list(folder.rglob("*.safetensors"))) >= 6
    (folder / "text_encoder" / "model.safetensors").unlink()
    assert any("was made from another text_encoder" in fault for fault in faults(folder))


def test_a_stage_that_does_not_exist_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--stages", "text,unet"])
    with pytest.raises(SystemExit):
        command.main()
    assert "unknown stage 'unet'; there are: text, autoencoder" in capsys.readouterr().err
