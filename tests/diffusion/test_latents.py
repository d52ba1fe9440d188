from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch

from livo.diffusion.backbones import load_backbone
from livo.diffusion.latents import decode, estimate_x0, initial_noise, latent_rgb, preview


def test_noise_is_the_seeds_alone():
    noise, _ = initial_noise((5, 6, 5), (4, 8, 8), torch.float32)
    assert torch.equal(noise[0], noise[2]) and not torch.equal(noise[0], noise[1])
    assert torch.equal(noise[:1], torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_x0_is_recovered_from_a_perfect_prediction(kind):
    x0, eps, a = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), 0.3
    x_t = a**0.5 * x0 + (1 - a) ** 0.5 * eps
    perfect = {"epsilon": eps, "v_prediction": a**0.5 * eps - (1 - a) ** 0.5 * x0, "sample": x0}[kind]
    assert torch.allclose(estimate_x0(x_t, perfect, a, kind), x0, atol=1e-5)


def test_preview_is_linear_and_reads_the_vaes_own_map(tiny_backbone):
    vae = copy.deepcopy(tiny_backbone.vae)
    vae.register_to_config(latent_rgb=[[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0, 0, 0], [0.0, 0.0, -1.0]])
    x0 = torch.zeros(1, 4, 2, 2)
    x0[0, 0] = 1.0
    assert preview(x0, latent_rgb(vae))[0, :, 0, 0].tolist() == [191, 128, 0]
    fitted = latent_rgb(tiny_backbone.vae)
    assert fitted.shape == (5, 3) and torch.isfinite(fitted).all()
    red = torch.tensor([0.8, -0.8, -0.8])[None, :, None, None].expand(1, 3, 16, 16)
    with torch.no_grad():
        latents = tiny_backbone.vae.encode(red).latent_dist.mode() * tiny_backbone.vae.config.scaling_factor
    assert preview(latents, fitted).shape == (1, 3, 8, 8)


def test_decoding_in_chunks_changes_nothing(tiny_backbone):
    latents = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, single = decode(tiny_backbone.vae, latents, 1 << 30), decode(tiny_backbone.vae, latents, 1)
    assert whole.shape == (5, 3, 16, 16) and (whole.int() - single.int()).abs().max() <= 1


def test_the_map_survives_a_vaes_folder_without_a_warning(tiny_folder, tmp_path, capfd):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    path, stored = folder / "vae" / "config.json", [[0.5, 0.25, 0.0]] * 5
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"latent_rgb": stored}), encoding="utf-8")
    backbone = load_backbone(str(folder), device="cpu")
    assert latent_rgb(backbone.vae).tolist() == stored
    assert capfd.readouterr() == ("", "")
