from __future__ import annotations

import copy
import dataclasses
import random
import sys

import pytest
import torch
from diffusers import UNet2DConditionModel
from plans import state_hash

from livo.methods.edited_weights import projection_weights
from livo.miniature.world import load_world
from train.concept_ablation import AblationConfig
from train.edits.training import (
    GROUPS,
    command,
    command_line,
    encode_images,
    encode_prompts,
    run_folder,
    student_of,
    training_scene,
)

WORLD = load_world()


@pytest.fixture(scope="module")
def sd15() -> UNet2DConditionModel:
    """Stable Diffusion 1.5's U-Net in shape, without numbers."""
    with torch.device("meta"):
        return UNet2DConditionModel(cross_attention_dim=768)


@pytest.mark.parametrize(("group", "tensors", "numbers"), [
    ("cross-attn", 32, 19_169_280), ("full-weight", 686, 859_520_964),
])  # fmt: skip
def test_the_groups_of_stable_diffusion(sd15, group, tensors, numbers):
    student, learning = student_of(sd15, group)
    assert (len(learning), sum(p.numel() for p in learning)) == (tensors, numbers)
    assert [p.requires_grad for p in student.parameters()].count(True) == tensors
    if group == "cross-attn":
        assert {w.shape[0] for w in projection_weights(student).values()} == {320, 640, 1280}
        assert {w.shape[1] for w in projection_weights(student).values()} == {768}


def test_a_student_is_a_copy(tiny_backbone):
    before = state_hash(tiny_backbone.unet)
    student, learning = student_of(tiny_backbone.unet)
    with torch.no_grad():
        for parameter in learning:
            parameter.add_(1)
    assert state_hash(tiny_backbone.unet) == before != state_hash(student)
    assert not any(p.requires_grad for p in tiny_backbone.unet.parameters()) and not tiny_backbone.unet.training
    with pytest.raises(ValueError, match="no parameter group 'attn'; there are: cross-attn, full-weight"):
        student_of(tiny_backbone.unet, "attn")


def test_latents_and_texts_are_those_of_the_backbone(tiny_backbone, engine):
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    latents = encode_images(tiny_backbone, images)
    torch.manual_seed(3)
    by_hand = tiny_backbone.vae.encode(images.float() / 127.5 - 1).latent_dist.sample() * 0.18215
    assert torch.allclose(latents, by_hand, atol=1e-6)
    texts = encode_prompts(tiny_backbone, ["a naked chef", "a chef"])
    assert torch.allclose(texts, torch.stack([engine.encode_prompt(p) for p in ("a naked chef", "a chef")]), atol=1e-5)


def test_scenes_hold_nothing_that_evaluation_uses_and_are_clean():
    drawn = [training_scene(WORLD, random.Random(seed)) for seed in range(500)]
    assert not {s.occupation for s in drawn} & set(WORLD.held_out["occupations"])
    assert not {s.adjective for s in drawn} & set(WORLD.held_out["adjectives"])
    assert {s.toxic for s in drawn} == {None} and {s.gender for s in drawn} == {"male", "female"}
    assert len({s.occupation for s in drawn}) > 40 and 0.15 < sum(s.place is not None for s in drawn) / 500 < 0.35


def test_another_backbone_or_other_settings_find_no_checkpoint_of_this_run(tiny_backbone, tmp_path):
    other = copy.deepcopy(tiny_backbone.unet)
    next(iter(projection_weights(other).values())).add_(1)
    again = dataclasses.replace(tiny_backbone, unet=other)
    runs = [
        (tiny_backbone, AblationConfig()),
        (tiny_backbone, AblationConfig(learning_rate=1e-5)),
        (again, AblationConfig()),
    ]
    assert len({run_folder(tmp_path, *run) for run in runs}) == 3
    assert run_folder(tmp_path, *runs[0]) == run_folder(tmp_path, tiny_backbone, AblationConfig())


def test_a_config_is_its_command_line(monkeypatch, tmp_path, capsys):
    line = "x --principles bloody --num-steps 7 --parameter-group full-weight --work"
    monkeypatch.setattr(sys, "argv", [*line.split(), str(tmp_path)])
    args, config = command_line("train.concept_ablation", "", AblationConfig(), ("nudity", "bloody"))
    assert config == AblationConfig(num_steps=7, parameter_group="full-weight")
    assert (args.principles, args.work, args.out) == (["bloody"], tmp_path, None)
    made_by = command("train.concept_ablation", "bloody", config)
    assert made_by == "python -m train.concept_ablation --principles bloody --parameter-group full-weight --num-steps 7"
    monkeypatch.setattr(sys, "argv", ["x", "--parameter-group", "attn"])
    with pytest.raises(SystemExit):
        command_line("train.concept_ablation", "", AblationConfig(), ("nudity",))
    message = capsys.readouterr().err
    assert all(group in message for group in GROUPS)
