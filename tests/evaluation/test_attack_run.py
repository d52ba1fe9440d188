"""Attacks on tiny methods with the miniature's judge: the same file whoever made it, and after any kill."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from plans import edited_weights

from baselines.stable_diffusion import StableDiffusion
from livo.classifiers.judge import load_judge
from livo.diffusion.backbones import ASSETS, Defaults
from livo.diffusion.engine import Engine
from livo.evaluation import attack_run
from livo.evaluation.attack_run import Attacker, Budget
from livo.evaluation.methods import EvaluatedMethod
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder
from livo.miniature.world import TOXIC_KINDS, load_world
from livo.types import Conditioning

WORLD = load_world()
BUDGET = Budget(subjects=2, each=1, queries=3, per_query=1, token_steps=2, token_batch=2, drawings=2)
TRIED = ("plain", "mixed", "guidance-15", "start-0.5", "token", "search")


@pytest.fixture(scope="module")
def attacker(tiny_backbone, tmp_path_factory):
    engine = Engine(replace(tiny_backbone, defaults=Defaults(2, 5.0, 16, 16)))
    both = ("bias", "toxicity")
    methods = {
        "stable_diffusion": EvaluatedMethod("stable_diffusion", "Stable Diffusion", both, StableDiffusion(engine)),
        "livo": EvaluatedMethod("livo", "LiVO", both, LiVO(engine, ValueEncoder.untrained(tiny_backbone))),
        "fair": EvaluatedMethod("fair", "Only fair", ("bias",), StableDiffusion(engine)),
    }
    judge, root = load_judge(ASSETS / "miniature" / "evaluator"), tmp_path_factory.mktemp("attacks")
    return lambda name: Attacker(engine, judge, methods, WORLD, root / name, BUDGET)


def test_a_killed_run_goes_on_and_finds_the_same(attacker, monkeypatch):
    monkeypatch.setattr(attack_run, "TITLES", dict.fromkeys(TRIED, ""))
    monkeypatch.setattr(attack_run, "TOXIC_KINDS", ("zombie",))
    monkeypatch.setattr(attack_run.time, "process_time", lambda: 0.0)
    whole = attacker("whole").run()
    broken = attacker("broken")
    assert broken.run(0, 2) is None and broken.run(1, 2).read_bytes() == whole.read_bytes()
    monkeypatch.setattr(Attacker, "attack", None)
    assert broken.run() == whole.parents[1] / "broken" / "attacks.json", "what is known is not tried again"
    found = attack_run.AttackFile.model_validate_json(whole.read_bytes())
    assert len(found.cells) == len(TRIED) * 2 and set(found.methods) == {"stable_diffusion", "livo"}
    search, token = (next(cell for cell in found.cells if cell.attack == name) for name in ("search", "token"))
    assert search.spent == 3 and "who}" in search.prompts[0] and token.retrieved == 0 < found.cells[0].retrieved


def test_wordings_are_new_and_name_whom_they_are_about(attacker):
    known = [w for table in (WORLD.toxic, WORLD.toxic_paraphrases) for group in table.values() for w in group]
    for level, kinds in attacker("none").wordings.items():
        assert set(kinds) == set(TOXIC_KINDS) and level in attack_run.TITLES
        for wording in (w for group in kinds.values() for w in group):
            assert "who}" in wording and wording not in known


def test_a_worlds_own_indirect_wordings_are_tried_by_step(attacker):
    texts = [f"{{a_who}} of step {i}" for i in range(1, 5)]
    one, other = attacker("none"), attacker("none")
    other.world = replace(WORLD, toxic_indirect=dict.fromkeys(TOXIC_KINDS, texts))
    other.__post_init__()
    more = {attack for _, _, attack in other._cells()} - {attack for _, _, attack in one._cells()}
    assert more == {f"indirect-{i}" for i in range(1, 5)}
    assert other.prepare("livo", "zombie", "indirect-3").prompts == (texts[2],)


def test_neighbours_keep_the_subject():
    rng = random.Random(0)
    found = {attack_run._neighbour("an unclothed {who}", ["red", "old"], rng) for _ in range(200)}
    assert all(wording.count("{who}") == 1 for wording in found) and len(found) > 20


def test_predicted_noise_is_the_denoisers_own_with_gradients_at_the_text(tiny_backbone):
    engine, unet = Engine(tiny_backbone), tiny_backbone.unet
    engine.add_projection("edit", edited_weights(unet))
    latents, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([900, 30])
    embeds = engine.encode_prompt("a photo of a doctor").clone().requires_grad_()
    predicted = engine.predict_noise(latents, t, [Conditioning(embeds)] * 2)
    theirs = unet(latents, t, embeds.detach().expand(2, -1, -1)).sample
    assert (predicted - theirs).abs().max() < 1e-5
    predicted.square().mean().backward()
    assert embeds.grad.abs().max() > 0
    edited = engine.predict_noise(latents, t, [Conditioning(embeds.detach(), "edit")] * 2)
    assert (edited - theirs).abs().max() > 1e-3
