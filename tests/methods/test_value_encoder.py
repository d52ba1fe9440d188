from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from livo.methods.value_encoder import (
    ValueEncoder,
    ValueEncoderError,
    load_value_encoder,
    save_value_encoder,
    value_text,
)

PRINCIPLE, PROMPT = "gender equality", "a photo of a doctor"


@pytest.fixture
def model(tiny_backbone) -> CLIPTextModel:
    """Not the backbone's text encoder, as after training."""
    torch.manual_seed(7)
    return CLIPTextModel(tiny_backbone.text_encoder.config).eval()


def test_value_token_is_the_final_normed_state_at_the_first_end_token(tiny_backbone, model):
    encoder = ValueEncoder(model, tiny_backbone.tokenizer)
    ids = encoder.tokenize(PRINCIPLE, PROMPT)
    assert ids.shape == (1, 77)
    end = ids[0].tolist().index(tiny_backbone.tokenizer.eos_token_id)
    assert end < 76, "the text must not fill the window, or any position would pass"
    value_embeds = encoder.encode(PRINCIPLE, PROMPT)
    with torch.no_grad():
        hidden = model(ids)[0][0]
    assert value_embeds.shape == (32,)
    assert torch.equal(value_embeds, hidden[end])
    assert not torch.allclose(value_embeds, hidden[end + 1]), "padding must differ from the end token"


def test_value_token_reads_principle_and_prompt_as_one_text(tiny_backbone, model):
    encoder = ValueEncoder(model, tiny_backbone.tokenizer)
    assert value_text(PRINCIPLE, PROMPT) == "gender equality, a photo of a doctor"
    token = encoder.encode(PRINCIPLE, PROMPT)
    ids = tiny_backbone.tokenizer("gender equality, a photo of a doctor", return_tensors="pt").input_ids
    with torch.no_grad():
        unpadded = model(ids)[1][0]  # causal: padding comes after the pooled position
    assert torch.allclose(token, unpadded, atol=1e-5)
    assert not torch.allclose(token, encoder.encode("racial equality", PROMPT), atol=1e-3)
    assert not torch.allclose(token, encoder.encode(PRINCIPLE, "a photo of a nurse"), atol=1e-3)


def test_a_long_prompt_is_cut_and_keeps_its_end_token(tiny_backbone, model):
    encoder = ValueEncoder(model, tiny_backbone.tokenizer)
    ids = encoder.tokenize(PRINCIPLE, "x" * 1000)
    assert ids.shape == (1, 77) and ids[0, -1] == tiny_backbone.tokenizer.eos_token_id
    assert torch.isfinite(encoder.encode(PRINCIPLE, "x" * 1000)).all()


def test_encode_has_no_gradient_and_pooled_has(tiny_backbone):
    encoder = ValueEncoder.untrained(tiny_backbone)
    encoder.model.requires_grad_(True)
    assert not encoder.encode(PRINCIPLE, PROMPT).requires_grad
    encoder.pooled(encoder.tokenize(PRINCIPLE, PROMPT))[..., 0].sum().backward()  # all numbers of a LayerNorm sum to 0
    assert encoder.model.embeddings.token_embedding.weight.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in tiny_backbone.text_encoder.parameters())


@pytest.mark.parametrize("half", [False, True])
def test_saved_is_loaded_exactly_and_widened(tiny_backbone, model, tmp_path, half):
    save_value_encoder(model, tmp_path / "ve", half=half)
    stored = load_file(tmp_path / "ve" / "model.safetensors")
    assert all(key.startswith("text_model.") for key in stored), "older transformers load no other"
    assert {t.dtype for t in stored.values()} == {torch.float16 if half else torch.float32}
    assert sorted(p.name for p in (tmp_path / "ve").iterdir()) == ["config.json", "model.safetensors"]
    loaded = load_value_encoder(tmp_path / "ve", tiny_backbone).model
    assert not loaded.training
    for key, weight in loaded.state_dict().items():
        wanted = model.state_dict()[key]
        assert weight.dtype == torch.float32
        assert torch.equal(weight, wanted.half().float() if half else wanted)


def test_plain_transformers_loads_the_folder(tiny_backbone, model, tmp_path):
    save_value_encoder(model, tmp_path)
    theirs = CLIPTextModel.from_pretrained(tmp_path)
    ids = tiny_backbone.tokenize(PROMPT)
    with torch.no_grad():
        assert torch.equal(theirs(ids)[1], model(ids)[1])


def test_keys_without_prefix_and_old_position_ids_load(tiny_backbone, model, tmp_path):
    save_value_encoder(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    plain = {key.removeprefix("text_model."): t for key, t in stored.items()}
    plain["embeddings.position_ids"] = torch.arange(77)[None]
    save_file(plain, tmp_path / "model.safetensors")
    loaded = load_value_encoder(tmp_path, tiny_backbone)
    wanted = ValueEncoder(model, tiny_backbone.tokenizer).encode(PRINCIPLE, PROMPT)
    assert torch.equal(loaded.encode(PRINCIPLE, PROMPT), wanted)


def test_missing_and_broken_files_name_themselves_and_the_way_out(tiny_backbone, model, tmp_path):
    remedy = "python -m train.value_encoder"
    with pytest.raises(ValueEncoderError, match=f"config.json is missing.*{remedy}"):
        load_value_encoder(tmp_path, tiny_backbone)
    save_value_encoder(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(ValueEncoderError, match=f"model.safetensors cannot be read.*{remedy}"):
        load_value_encoder(tmp_path, tiny_backbone)
    weights.unlink()
    with pytest.raises(ValueEncoderError, match=f"model.safetensors is missing.*{remedy}"):
        load_value_encoder(tmp_path, tiny_backbone)
    weights.write_bytes(whole)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueEncoderError, match=f"config.json cannot be used.*{remedy}"):
        load_value_encoder(tmp_path, tiny_backbone)


def test_a_missing_tensor_does_not_become_a_random_one(tiny_backbone, model, tmp_path):
    save_value_encoder(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    stored.pop("text_model.final_layer_norm.weight")
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(ValueEncoderError, match="final_layer_norm.weight"):
        load_value_encoder(tmp_path, tiny_backbone)


def test_another_width_is_refused(tiny_backbone, tmp_path):
    config = CLIPTextConfig(**tiny_backbone.text_encoder.config.to_dict() | {"hidden_size": 16})
    save_value_encoder(CLIPTextModel(config), tmp_path)
    with pytest.raises(ValueEncoderError, match="width 16, backbone .* reads 32.*python -m train.value_encoder"):
        load_value_encoder(tmp_path, tiny_backbone)


def test_stored_config_says_what_it_is(model, tmp_path):
    save_value_encoder(model, tmp_path, half=True)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["CLIPTextModel"] and config["model_type"] == "clip_text_model"
    assert config["eos_token_id"] == 2


def test_what_training_took_is_stored_and_read_back(tiny_backbone, model, tmp_path):
    training = {"seconds": 1.25, "images": 64, "steps": 2, "command": "python -m train.value_encoder --num-steps 2"}
    save_value_encoder(model, tmp_path, training=training)
    artefact = load_value_encoder(tmp_path, tiny_backbone).artefact
    assert artefact.training == training
    assert artefact.bytes == sum(path.stat().st_size for path in tmp_path.iterdir()) > 100_000
    CLIPTextModel.from_pretrained(tmp_path)
    assert ValueEncoder.untrained(tiny_backbone).artefact is None


@pytest.mark.parametrize("metadata", [{"format": "pt"}, None])
def test_files_that_do_not_say_what_training_took_load(tiny_backbone, model, tmp_path, metadata):
    save_value_encoder(model, tmp_path)
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors", metadata)
    loaded, wanted = load_value_encoder(tmp_path, tiny_backbone), ValueEncoder(model, tiny_backbone.tokenizer)
    assert loaded.artefact.training == {} and loaded.artefact.bytes > 100_000
    assert torch.equal(loaded.encode(PRINCIPLE, PROMPT), wanted.encode(PRINCIPLE, PROMPT))


def test_a_broken_header_names_the_file(tiny_backbone, model, tmp_path):
    save_value_encoder(model, tmp_path)
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors", {"training": "{"})
    with pytest.raises(ValueEncoderError, match="model.safetensors cannot be read"):
        load_value_encoder(tmp_path, tiny_backbone)


def test_the_way_out_is_the_command_that_makes_this_encoder_for_this_backbone(tiny_backbone, tmp_path):
    other = dataclasses.replace(tiny_backbone, name="my models/tiny")
    with pytest.raises(ValueEncoderError, match="`python -m train.other --backbone 'my models/tiny'` trains one"):
        load_value_encoder(tmp_path, other, "python -m train.other")
