from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from plans import PROMPT, edited_weights, text_plan

from baselines import dapt
from baselines.stable_diffusion import StableDiffusion
from livo.methods.edited_weights import ProjectionError, save_projection
from livo.principles import find_principle

GENDER, ZOMBIE = find_principle("gender_equality"), find_principle("zombie")


@pytest.fixture
def folder(engine, tmp_path):
    """The backbone's folder for this test, with weights for gender equality and against zombies."""
    unet = engine.backbone.unet
    engine.backbone = dataclasses.replace(engine.backbone, folder=tmp_path)
    for seed, principle in enumerate((GENDER, ZOMBIE)):
        path = tmp_path / "dapt" / f"{principle.id}.safetensors"
        save_projection(path, edited_weights(unet, seed), unet, {"seconds": 3.0, "images": 40, "command": "c"})
    return tmp_path / "dapt"


def test_without_a_principle_it_is_stable_diffusion(engine, folder, options):
    methods = {"dapt": dapt.load(engine), "sd": StableDiffusion(engine)}
    images = engine.generate({name: method.plan(PROMPT, None, options()) for name, method in methods.items()})
    assert torch.equal(images["dapt"], images["sd"])


def test_each_principle_has_its_own_weights_in_both_branches(engine, folder, options):
    method = dapt.load(engine)
    plans = {p.id: method.plan(PROMPT, p, options()) for p in (GENDER, ZOMBIE)}
    for id, plan in plans.items():
        assert {c.projection for branch in plan.branches.values() for c in branch} == {f"dapt/{id}"}
    images = engine.generate(plans | {"sd": text_plan(engine, PROMPT, options())})
    first, second, plain = (images[name].int() for name in (GENDER.id, ZOMBIE.id, "sd"))
    assert min((a - b).abs().max() for a, b in ((first, second), (first, plain), (second, plain))) > 5
    assert method.artefact(GENDER).training["images"] == 40


def test_it_acts_on_both_risks():
    assert dapt.RISKS == ("bias", "toxicity") and dapt.TITLE == "DAPT"


def test_what_is_missing_broken_or_foreign_is_named_with_the_command(engine, folder, options):
    with pytest.raises(
        ProjectionError, match=r"bloody\.safetensors is missing: `python -m train\.dapt --backbone \S+tiny0`"
    ):
        dapt.load(engine).plan(PROMPT, find_principle("bloody"), options())
    path = folder / "zombie.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(ProjectionError, match=r"zombie\.safetensors cannot be read.*python -m train\.dapt"):
        dapt.load(engine)
    path.write_bytes(whole)
    trained_again = copy.deepcopy(engine.backbone.unet)
    with torch.no_grad():
        for name, weight in edited_weights(trained_again).items():
            trained_again.get_parameter(name).copy_(weight)
    engine.backbone = dataclasses.replace(engine.backbone, unet=trained_again)
    with pytest.raises(ProjectionError, match=r"was made for other weights.*python -m train\.dapt"):
        dapt.load(engine)
