from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from plans import PROMPT, state_hash, text_plan

from baselines import _uce_edit as edit
from baselines import uce, uce_2025, uce_sequential
from livo.methods.edited_weights import ProjectionError, projection_weights, save_projection
from livo.types import InputError, Principle

CONCEPTS = ("doctor", "a kind nurse", "ceo")
GENDER = Principle("gender_equality", "gender equality", "bias", ("male", "female"))
METHODS = {"uce": uce, "uce_2025": uce_2025, "uce_sequential": uce_sequential}


@pytest.fixture
def weights(engine64) -> dict[str, torch.Tensor]:
    return projection_weights(engine64.backbone.unet)


@pytest.fixture
def texts(engine64) -> list[edit.EditedText]:
    """Two concepts with two attributes, blocks to the end."""
    return [edited_text(engine64, concept) for concept in ("image of doctor", "nurse")]


def edited_text(engine, concept, blocks=edit.blocks_to_the_end, words=("male", "female")) -> edit.EditedText:
    read = [edit.read_text(engine, text) for text in (concept, *words)]
    tokens, *attributes = blocks(read)
    return edit.EditedText(tokens, tuple(attributes), read[0])


def closed_form(weight, tokens, values, preserve, preserve_scale, ridge=0.5, edit_scale=1.0) -> np.ndarray:
    """The equation written out, one outer product after the other."""
    width = weight.shape[1]
    left, right = ridge * weight, ridge * np.eye(width)
    for c, v in zip(tokens, values, strict=True):
        left = left + edit_scale * np.outer(v, c)
        right = right + edit_scale * np.outer(c, c)
    for c in preserve:
        left = left + preserve_scale * np.outer(weight @ c, c)
        right = right + preserve_scale * np.outer(c, c)
    return left @ np.linalg.inv(right)


def embeds(engine, text) -> np.ndarray:
    return engine.encode_prompt(text).double().numpy()


def last(text: str) -> int:
    """The tiny tokenizer has a token a byte, and none for a space."""
    return len(text.replace(" ", ""))


def check(edited, weights, tokens, values, preserve, preserve_scale, *, fails=None, atol=1e-9) -> None:
    """All weights against the written-out equation; `fails` is a target with which it must not hold."""
    assert edited.keys() == weights.keys() and len(weights) == 8
    for name, weight in weights.items():
        w = weight.double().numpy()
        wanted = closed_form(w, tokens, values(w), preserve, preserve_scale)
        assert edited[name].dtype == torch.float64
        np.testing.assert_allclose(edited[name].numpy(), wanted, rtol=0, atol=atol)
        assert np.abs(edited[name].numpy() - w).max() > 1e-2, "the edit itself is large"
        if fails is not None:
            control = closed_form(w, tokens, fails(w), preserve, preserve_scale)
            assert np.abs(edited[name].numpy() - control).max() > 1e-4, "the comparison can fail"


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "place"), [("doctor", 6), ("a b", 2), ("", 0), (" ", 0), ("x" * 200, 75)])
def test_the_last_content_token(engine64, text, place):
    read = edit.read_text(engine64, text)
    assert read.last == place and read.embeds.shape == (77, 32) and read.embeds.dtype == torch.float64


def test_blocks_begin_at_the_last_content_token_and_have_one_length(engine64):
    short, long = (edit.read_text(engine64, text) for text in ("nurse", "doctor"))
    a, b = edit.blocks_to_the_end([short, long])
    assert torch.equal(a, short.embeds[5:76]) and torch.equal(b, long.embeds[6:77])
    (c,) = edit.last_tokens([short])
    assert torch.equal(c, short.embeds[5:6])


@pytest.mark.parametrize(("concepts", "message"), [
    (["doctor", " "], "concept ' ' holds no word"),
    (["", "doctor"], "concept '' holds no word"),
    (["ceo", "ceo"], "'ceo' stands there twice"),
    ([], "no concept"),
])  # fmt: skip
def test_concepts_that_cannot_be_edited_are_named(engine64, weights, concepts, message):
    for erase in (edit.erase_2023, edit.erase_2025):
        with pytest.raises(InputError, match=message):
            erase(engine64, weights, concepts)


# --- the closed form -------------------------------------------------------------------------------------------------


def test_erasing_2025_maps_last_tokens_onto_the_start_of_text(engine64, weights):
    tokens = np.stack([embeds(engine64, text)[last(text)] for text in CONCEPTS])
    start, end = embeds(engine64, "")[0], embeds(engine64, "")[1]
    check(
        edit.erase_2025(engine64, weights, CONCEPTS), weights, tokens,
        values=lambda w: np.stack([w @ start] * 3), preserve=[], preserve_scale=1.0,
        fails=lambda w: np.stack([w @ end] * 3),
    )  # fmt: skip


def test_erasing_2023_maps_blocks_onto_a_space_and_preserves_the_empty_text(engine64, weights):
    tokens = np.concatenate([embeds(engine64, text)[last(text) :] for text in CONCEPTS])
    guides = np.concatenate([embeds(engine64, " ")[: 77 - last(text)] for text in CONCEPTS])
    shifted = np.concatenate([embeds(engine64, " ")[last(text) :] for text in CONCEPTS])
    check(
        edit.erase_2023(engine64, weights, CONCEPTS), weights, tokens,
        values=lambda w: guides @ w.T, preserve=embeds(engine64, ""), preserve_scale=1.0,
        fails=lambda w: shifted @ w.T,
    )  # fmt: skip


def aliased(w, text, shifts, *, running_norm=True) -> np.ndarray:
    """T <- T + delta_j ||T||_F U_j, by hand; the control takes the norm of the first T throughout."""
    target = text.tokens.numpy() @ w.T
    first = np.linalg.norm(target)
    for block, shift in zip(text.attributes, shifts, strict=True):
        direction = block.numpy() @ w.T
        norm = np.linalg.norm(target) if running_norm else first
        target = target + shift * norm * direction / np.linalg.norm(direction)
    return target


def test_debiasing_2023_grows_the_norm_it_scales_by(engine64, weights, texts):
    preserve = edit.read_text(engine64, "judge").embeds
    tokens = np.concatenate([text.tokens.numpy() for text in texts])
    shifts = [(0.3, -0.3), (-0.2, 0.2)]

    def target(w, running_norm):
        parts = [aliased(w, t, s, running_norm=running_norm) for t, s in zip(texts, shifts, strict=True)]
        return np.concatenate(parts)

    check(
        edit.debias_2023(weights, texts, shifts, preserve), weights, tokens,
        values=lambda w: target(w, True), preserve=preserve.numpy(), preserve_scale=0.1,
        fails=lambda w: target(w, False),
    )  # fmt: skip


def test_debiasing_from_the_original_adds_attributes_before_the_projection(engine64, weights):
    texts = [edited_text(engine64, concept, edit.last_tokens) for concept in CONCEPTS]
    coefficients = [(0.5, -0.5), (-0.3, 0.3), (0.0, 0.0)]
    tokens = np.concatenate([text.tokens.numpy() for text in texts])

    def values(w):
        rows = []
        for text, (a, b) in zip(texts, coefficients, strict=True):
            male, female = (attribute.numpy() @ w.T for attribute in text.attributes)
            rows.append(text.tokens.numpy() @ w.T + a * male + b * female)
        return np.concatenate(rows)

    check(
        edit.debias_from_original(weights, texts, coefficients), weights, tokens,
        values=values, preserve=[], preserve_scale=1.0, fails=lambda w: tokens @ w.T,
    )  # fmt: skip


def test_no_gap_is_no_change(weights, texts):
    still = [(0.0, 0.0)] * 2
    for edited in (edit.debias_2023(weights, texts, still, None), edit.debias_from_original(weights, texts, still)):
        for name, weight in weights.items():
            torch.testing.assert_close(edited[name], weight.double(), rtol=0, atol=1e-9)


def test_a_huge_ridge_is_no_change_and_a_small_one_reaches_the_target(engine64, weights, monkeypatch):
    text = edit.read_text(engine64, "doctor")
    source, target = text.embeds[6:7], edit.read_text(engine64, "").embeds[:1]

    def distance_left(ridge) -> float:
        monkeypatch.setattr(edit, "RIDGE", ridge)
        edited = edit.erase_2025(engine64, weights, ["doctor"])
        return max(
            ((source @ edited[n].T - target @ w.double().T).norm() / ((source - target) @ w.double().T).norm()).item()
            for n, w in weights.items()
        )

    assert distance_left(1e9) == pytest.approx(1, abs=1e-6)
    assert distance_left(1e-6) < 1e-6
    assert distance_left(0.5) == pytest.approx(0.5 / (0.5 + source.square().sum().item()), rel=1e-6)


def test_what_is_preserved_moves_less(engine64, weights, texts):
    other = edit.read_text(engine64, "baker").embeds
    shifts = [(0.3, -0.3)] * 2

    def moved(scale) -> float:
        edited = edit.debias_2023(weights, texts, shifts, other, scale)
        return sum((other @ (edited[n] - w.double()).T).norm().item() for n, w in weights.items())

    assert moved(100.0) < 0.5 * moved(0.1) < 0.5 * moved(0.0)


def test_float32_weights_are_solved_in_float64(engine, engine64):
    half, full = (projection_weights(e.backbone.unet) for e in (engine, engine64))
    for name, weight in edit.erase_2023(engine64, half, CONCEPTS).items():
        assert weight.dtype == torch.float64
        assert torch.equal(weight, edit.erase_2023(engine64, full, CONCEPTS)[name]), "the same numbers in a wider type"
        break


def test_stable_diffusion_has_32_matrices_to_edit():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    weights = projection_weights(unet)
    assert len(weights) == 32 and sum(w.numel() for w in weights.values()) == 19_169_280
    assert {tuple(w.shape) for w in weights.values()} == {(320, 768), (640, 768), (1280, 768)}
    assert all(".attn2.to_k.weight" in name or ".attn2.to_v.weight" in name for name in weights)


# --- the methods -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=list(METHODS))
def method_id(request) -> str:
    return request.param


def shipped(engine, tmp_path, method_id, edited) -> None:
    """A backbone folder with one file of the method."""
    engine.backbone = dataclasses.replace(engine.backbone, folder=tmp_path)
    path = tmp_path / method_id / f"{GENDER.id}.safetensors"
    save_projection(path, edited, engine.backbone.unet, {"seconds": 1.5, "images": 40})


def test_a_method_reads_its_files_and_tells_their_cost(engine64, tmp_path, method_id, weights, options):
    shipped(engine64, tmp_path, method_id, edit.erase_2023(engine64, weights, CONCEPTS))
    before = state_hash(engine64.backbone.unet)
    method = METHODS[method_id].load(engine64)
    ask = options()
    plans = {
        "sd": text_plan(engine64, PROMPT, ask),
        "on": method.plan(PROMPT, GENDER, ask),
        "off": method.plan(PROMPT, None, ask),
    }
    images = engine64.generate(plans)
    assert torch.equal(images["off"], images["sd"]) and not torch.equal(images["on"], images["sd"])
    artefact = method.artefact(GENDER)
    assert artefact.training["images"] == 40 and artefact.bytes > 0 and method.artefact(None) is None
    assert state_hash(engine64.backbone.unet) == before, "the shared U-Net is never written to"


def test_a_missing_file_names_the_command(engine64, tmp_path, method_id, weights, options):
    engine64.backbone = dataclasses.replace(engine64.backbone, folder=tmp_path)
    form = {"uce": "", "uce_2025": " --form 2025", "uce_sequential": " --form sequential"}[method_id]
    with pytest.raises(ProjectionError, match=f"python -m train.uce{form} --backbone .*`"):
        METHODS[method_id].load(engine64)
    shipped(engine64, tmp_path, method_id, edit.erase_2025(engine64, weights, CONCEPTS))
    other = dataclasses.replace(GENDER, id="racial_equality")
    with pytest.raises(ProjectionError, match="racial_equality"):
        METHODS[method_id].load(engine64).plan(PROMPT, other, options())


def test_the_repair_is_of_the_loop_and_so_of_bias_alone():
    assert uce.RISKS == uce_2025.RISKS == ("bias", "toxicity") and uce_sequential.RISKS == ("bias",)


def test_the_order_of_concepts_does_not_matter(engine64, weights):
    shuffled = random.Random(0).sample(CONCEPTS, 3)
    for erase in (edit.erase_2023, edit.erase_2025):
        one, other = erase(engine64, weights, CONCEPTS), erase(engine64, weights, shuffled)
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-9)
