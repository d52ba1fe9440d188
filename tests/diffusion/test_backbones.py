from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from livo.diffusion.backbones import ASSETS, BackboneError, Defaults, left_on_cpu, load_backbone


@pytest.fixture
def broken(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_parts_are_frozen_float32_and_sized_by_their_configs(tiny_backbone, tiny_folder):
    assert tiny_backbone.folder == tiny_folder
    assert isinstance(tiny_backbone.text_encoder, CLIPTextModel)
    assert tiny_backbone.dtype == torch.float32 and tiny_backbone.device.type == "cpu"
    for part in (tiny_backbone.text_encoder, tiny_backbone.unet, tiny_backbone.vae):
        assert not part.training
        assert all(not p.requires_grad and p.dtype == torch.float32 for p in part.parameters())
    assert tiny_backbone.vae_scale == 2 and tiny_backbone.max_length == 77
    assert tiny_backbone.defaults == Defaults(25, 7.5, 16, 16)
    assert tiny_backbone.scheduler_config["_class_name"] == "PNDMScheduler"


def test_half_files_are_widened_on_the_cpu(tiny_backbone, broken):
    for part, cls in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)):
        cls.from_pretrained(broken / part).half().save_pretrained(broken / part)
    backbone = load_backbone(str(broken), device="cpu")
    pairs = [(backbone.unet, tiny_backbone.unet), (backbone.text_encoder, tiny_backbone.text_encoder)]
    for loaded, original in [*pairs, (backbone.vae, tiny_backbone.vae)]:
        for key, weight in loaded.state_dict().items():
            assert weight.dtype == torch.float32
            assert torch.equal(weight, original.state_dict()[key].half().float())


def test_tokenize_pads_and_keeps_the_end_token_when_it_cuts(tiny_backbone):
    short, long = tiny_backbone.tokenize("ab"), tiny_backbone.tokenize("x" * 500)
    assert short.shape == long.shape == (1, 77)
    assert short[0, 0] == 512 and (short[0, 3:] == 513).all() and (short[0, :3] != 513).all()
    assert long[0, -1] == 513 and long[0, -2] != 513


@pytest.mark.parametrize("name", ["no-such-model", "./no/such", "/no/such/folder", "a/b/c"])
def test_names_that_are_neither_folder_nor_hub_id_fail_at_once(name):
    with pytest.raises(BackboneError, match="no backbone folder.*'miniature'.*hub id"):
        load_backbone(name)


def test_missing_miniature_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("livo.diffusion.backbones.ASSETS", tmp_path)
    with pytest.raises(BackboneError, match="git checkout -- assets/miniature.*python -m train.miniature"):
        load_backbone("miniature")
    assert ASSETS.name == "assets"


@pytest.mark.parametrize(
    "path", ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"]
)
def test_a_missing_file_is_named(broken, path):
    (broken / path).unlink()
    with pytest.raises(BackboneError, match=f"{path} is missing"):
        load_backbone(str(broken))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_and_truncated_weights_are_named(broken, part):
    (weights,) = (broken / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BackboneError, match=f"{part}/{weights.name} cannot be read.*copy .* again"):
        load_backbone(str(broken))
    weights.unlink()
    with pytest.raises(BackboneError, match=f"{part} holds no weights"):
        load_backbone(str(broken))


def test_a_config_that_is_no_json_is_named(broken):
    (broken / "unet" / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(BackboneError, match="unet/config.json cannot be read"):
        load_backbone(str(broken))


def test_weights_that_do_not_fit_their_config(broken):
    path = broken / "unet" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"cross_attention_dim": 48}), encoding="utf-8")
    with pytest.raises(BackboneError, match="does not load"):
        load_backbone(str(broken))


def test_a_text_encoder_of_another_width_is_found(broken):
    config = dict(UNet2DConditionModel.load_config(broken / "unet")) | {"cross_attention_dim": 48}
    UNet2DConditionModel.from_config(config).save_pretrained(broken / "unet")
    with pytest.raises(BackboneError, match="text encoder gives width 32, the denoiser reads 48"):
        load_backbone(str(broken))


def test_text_encoders_make_room_for_the_rest_the_largest_first():
    sizes = {"text_encoder": 2, "text_encoder_2": 3, "text_encoder_3": 10, "unet": 16, "vae": 1}
    found = {free: left_on_cpu(sizes, free) for free in (40, 28, 24, 1)}
    assert found[40] == () and found[28] == ("text_encoder_3",) and found[24] == ("text_encoder_3", "text_encoder_2")
    assert found[1] == ("text_encoder_3", "text_encoder_2", "text_encoder"), "the rest has to try"
