"""DPO and DPO-d at sampling: LiVO with another encoder."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from transformers import CLIPTextModel

import baselines
from baselines import dpo, dpo_d, stable_diffusion
from livo.methods import livo as method
from livo.methods.value_encoder import ValueEncoderError, save_value_encoder
from livo.types import Principle

BIAS = Principle("gender_equality", "gender equality", "bias", ("female", "male"))
TOXIC = Principle("nudity", "nudity considered inappropriate", "toxicity", ("nudity",))
PROMPT = "a photo of a doctor"
FOLDERS = {"livo": "value_encoder", "dpo": "dpo", "dpo_d": "dpo_d"}


@pytest.fixture
def methods(engine, tmp_path):
    """All three, each with an encoder of its own."""
    for seed, folder in enumerate(FOLDERS.values()):
        torch.manual_seed(seed)
        model = CLIPTextModel(engine.backbone.text_encoder.config)
        save_value_encoder(model, tmp_path / folder, half=True, training={"seconds": float(seed)})
    engine.backbone = dataclasses.replace(engine.backbone, folder=tmp_path)
    modules = baselines.available()
    return {id: modules[id].load(engine) for id in FOLDERS}


def test_the_same_images_take_the_value(methods, options):
    ask = options(seeds=range(9))
    for principle, count in ((BIAS, 5), (TOXIC, 9)):
        notes = {loaded.plan(PROMPT, principle, ask).notes for loaded in methods.values()}
        assert len(notes) == 1 and next(iter(notes)).count("value") == count


def test_each_reads_its_own_encoder(methods, options):
    tokens = [loaded.plan(PROMPT, TOXIC, options()).branches["cond"][0].prompt_embeds for loaded in methods.values()]
    assert all(token.shape == (78, 32) for token in tokens)
    assert all(torch.equal(token[1:], tokens[0][1:]) for token in tokens)
    assert all(torch.dist(a[0], b[0]) > 0.1 for a, b in itertools.combinations(tokens, 2))
    assert [loaded.artefact(BIAS).training["seconds"] for loaded in methods.values()] == [0.0, 1.0, 2.0]


def test_without_principle_they_are_stable_diffusion_at_no_cost(engine, methods, options, count_rows):
    plain = {"stable_diffusion": stable_diffusion.load(engine)} | methods
    rows = count_rows(engine.backbone.unet)
    images = engine.generate({id: loaded.plan(PROMPT, None, options()) for id, loaded in plain.items()})
    assert all(torch.equal(images[id], images["stable_diffusion"]) for id in FOLDERS) and max(rows) == 4


@pytest.mark.parametrize(("module", "command"), [
    (method, "python -m train.value_encoder"),
    (dpo, "python -m train.dpo"),
    (dpo_d, "python -m train.dpo --variant dpo-d"),
])  # fmt: skip
def test_a_missing_encoder_is_named_with_its_own_command(engine, tmp_path, module, command):
    engine.backbone = dataclasses.replace(engine.backbone, name="miniature", folder=tmp_path)
    folder = FOLDERS[module.__name__.removeprefix("baselines.").replace("livo.methods.livo", "livo")]
    missing = f"/{folder}/config.json is missing; `{command} --backbone miniature` trains one"
    with pytest.raises(ValueEncoderError, match=missing):
        module.load(engine)
