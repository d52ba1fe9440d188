from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from plans import PROMPT, edited_weights, state_hash, text_plan
from safetensors.torch import load_file, save_file

from baselines.concept_ablation import load, load_unet, save_unet, unet_path
from baselines.stable_diffusion import StableDiffusion
from livo.methods.edited_weights import ProjectionError, save_projection
from livo.principles import find_principle

NUDITY, ZOMBIE = find_principle("nudity"), find_principle("zombie")
COMMAND = r".*python -m train\.concept_ablation"
COST = {"seconds": 90.5, "images": 384, "command": "python -m train.concept_ablation --principles nudity"}


@pytest.fixture
def folder(engine, tmp_path):
    """The backbone's folder for this test, with K,V weights against nudity."""
    unet = engine.backbone.unet
    engine.backbone = dataclasses.replace(engine.backbone, folder=tmp_path)
    path = tmp_path / "concept_ablation" / "nudity.safetensors"
    save_projection(path, edited_weights(unet), unet, COST | {"parameter_group": "cross-attn"})
    return path.parent


@pytest.fixture
def full(engine, folder):
    """The U-Net of a full-weight artefact against nudity, stored."""
    unet = engine.backbone.unet
    student = copy.deepcopy(unet)
    with torch.no_grad():
        student.conv_in.weight.mul_(1.5)
        for name, weight in edited_weights(unet).items():
            student.get_parameter(name).copy_(weight)
    training = COST | {"parameter_group": "full-weight"}
    save_projection(folder / "nudity.safetensors", edited_weights(unet), unet, training)
    save_unet(unet_path(folder, "nudity"), student.state_dict(), unet)
    return student


def images_of(engine, plan) -> torch.Tensor:
    return engine.generate({"m": plan})["m"]


def test_without_a_principle_it_is_stable_diffusion(engine, folder, full, options):
    plan = load(engine).plan(PROMPT, None, options())
    assert plan.unet_override is None
    plain = StableDiffusion(engine).plan(PROMPT, None, options())
    assert torch.equal(images_of(engine, plan), images_of(engine, plain))


def test_its_images_are_those_of_a_unet_with_the_weights_written_in(engine, folder, options):
    before = state_hash(engine.backbone.unet)
    ours = images_of(engine, load(engine).plan(PROMPT, NUDITY, options()))
    written = copy.deepcopy(engine.backbone.unet)
    for name, weight in load_file(folder / "nudity.safetensors").items():
        written.get_parameter(name).copy_(weight.float())
    engine.add_unet("written", written)
    expected = images_of(engine, text_plan(engine, PROMPT, options(), unet_override="written"))
    assert (ours.int() - expected.int()).abs().max() <= 1
    assert (ours.int() - images_of(engine, text_plan(engine, PROMPT, options())).int()).abs().max() > 5
    assert state_hash(engine.backbone.unet) == before


def test_full_weights_run_on_a_unet_of_their_own(engine, folder, full, options):
    before = state_hash(engine.backbone.unet)
    method = load(engine)
    plan = method.plan(PROMPT, NUDITY, options())
    assert plan.unet_override == "concept_ablation/nudity"
    ours = images_of(engine, plan)
    engine.add_unet("student", full)
    expected = images_of(engine, text_plan(engine, PROMPT, options(), unet_override="student"))
    assert (ours.int() - expected.int()).abs().max() <= 2, "float16 on disk"
    kv_only = images_of(engine, text_plan(engine, PROMPT, options(), projection="concept_ablation/nudity"))
    assert (ours.int() - kv_only.int()).abs().max() > 5
    assert state_hash(engine.backbone.unet) == before
    files = [folder / "nudity.safetensors", unet_path(folder, "nudity")]
    assert method.artefact(NUDITY).bytes == sum(path.stat().st_size for path in files)


def test_the_cost_is_told(engine, folder):
    artefact = load(engine).artefact(NUDITY)
    assert artefact.bytes == (folder / "nudity.safetensors").stat().st_size
    assert COST.items() <= artefact.training.items()
    assert load(engine).artefact(ZOMBIE) is None and load(engine).artefact(None) is None


def test_what_is_missing_is_named_with_the_command(engine, folder, options):
    wanted = r"zombie\.safetensors is missing: `python -m train\.concept_ablation --backbone \S+tiny0`"
    with pytest.raises(ProjectionError, match=wanted):
        load(engine).plan(PROMPT, ZOMBIE, options())
    (folder / "nudity.safetensors").unlink()
    with pytest.raises(ProjectionError, match=r"concept_ablation.*python -m train\.concept_ablation"):
        load(engine)


def test_broken_and_foreign_files_are_named_with_the_command(engine, folder):
    path = folder / "nudity.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProjectionError, match=r"nudity\.safetensors cannot be read" + COMMAND):
        load(engine)
    other = copy.deepcopy(engine.backbone.unet)
    with torch.no_grad():
        next(p for n, p in other.named_parameters() if "attn2.to_k" in n).add_(0.5)
    save_projection(path, edited_weights(other), other, COST)
    with pytest.raises(ProjectionError, match=r"nudity\.safetensors was made for other weights" + COMMAND):
        load(engine)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ProjectionError, match=r"nudity\.safetensors was made for another backbone" + COMMAND):
        load(engine)


def test_a_unet_that_is_missing_broken_or_foreign_is_named_with_the_command(engine, folder, full):
    path, unet = unet_path(folder, "nudity"), engine.backbone.unet
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProjectionError, match=r"unet\.safetensors cannot be read" + COMMAND):
        load(engine)
    with torch.no_grad():
        other = copy.deepcopy(unet)
        next(p for n, p in other.named_parameters() if "attn2.to_k" in n).add_(0.5)
    save_unet(path, full.state_dict(), other)
    with pytest.raises(ProjectionError, match=r"unet\.safetensors was made for other weights" + COMMAND):
        load(engine)
    save_unet(path, {"x": torch.zeros(1)}, unet)
    with pytest.raises(ProjectionError, match=r"unet\.safetensors was made for another backbone" + COMMAND):
        load(engine)
    path.unlink()
    with pytest.raises(ProjectionError, match=r"unet\.safetensors is missing: `python -m train\.concept_ablation`"):
        load(engine)


def test_a_unet_is_stored_whole_or_not_at_all(engine, tmp_path):
    unet, path = engine.backbone.unet, tmp_path / "unet.safetensors"
    save_unet(path, unet.state_dict(), unet)
    loaded = load_unet(path, unet)
    assert loaded is not unet
    halves = {key: weight.half().float() for key, weight in unet.state_dict().items()}
    assert all(torch.equal(weight, halves[key]) for key, weight in loaded.state_dict().items())
    stored = path.read_bytes()
    broken = dict(unet.state_dict()) | {"conv_in.bias": torch.full((32,), 1e6)}
    with pytest.raises(ValueError, match="conv_in.bias is not finite in float16"):
        save_unet(path, broken, unet)
    assert path.read_bytes() == stored
