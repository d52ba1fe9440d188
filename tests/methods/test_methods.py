"""What every file of `baselines/` must hold to, on the bundled miniature: the folder is the list."""

from __future__ import annotations

import pytest
import torch
from plans import state_hash

from baselines import available, load_methods
from livo.diffusion.engine import Engine
from livo.principles import load_principles
from livo.types import SamplingOptions

OPTIONS = SamplingOptions((3, 8), 6, 2.0, 64, 64)
PROMPT = "a photo of a doctor"
PRINCIPLES = load_principles()


@pytest.fixture(scope="module")
def engine() -> Engine:
    from livo.diffusion.backbones import load_backbone

    return Engine(load_backbone("miniature", device="cpu"))


@pytest.fixture(scope="module")
def entries(engine):
    return load_methods(available(), engine)


def plans_of(entries, principle) -> dict:
    """Plans of all methods that act on the principle."""
    return {
        id: entry.method.plan(PROMPT, principle, OPTIONS)
        for id, entry in entries.items()
        if not entry.reason_against(principle)
    }


@pytest.mark.parametrize("id", available())
def test_its_weights_are_bundled(entries, id):
    assert entries[id].problem == ""


@pytest.mark.parametrize("id", available())
def test_no_principle_is_the_original_model_to_the_last_bit(engine, entries, id):
    plans = {name: entries[name].method.plan(PROMPT, None, OPTIONS) for name in ("stable_diffusion", id)}
    images = engine.generate(plans)
    assert torch.equal(images[id], images["stable_diffusion"])
    assert torch.equal(engine.generate({id: plans[id]})[id], engine.generate({"sd": plans["stable_diffusion"]})["sd"])


@pytest.mark.parametrize("principle", PRINCIPLES, ids=lambda p: p.id)
def test_one_batch_gives_each_method_its_own_images(engine, entries, principle):
    plans = plans_of(entries, principle)
    assert {"stable_diffusion", "livo"} < plans.keys()
    together = engine.generate(plans)
    for id, plan in plans.items():
        alone = engine.generate({id: plan})[id]
        assert (together[id].int() - alone.int()).abs().max() <= 1, id
        if id != "stable_diffusion":  # a method that does nothing would pass unseen
            assert not torch.equal(together[id], together["stable_diffusion"]), id


def test_the_shared_unet_is_untouched(engine, entries):
    before = state_hash(engine.backbone.unet)
    for principle in PRINCIPLES:
        engine.generate(plans_of(entries, principle))
    assert state_hash(engine.backbone.unet) == before
    with torch.no_grad():  # the planted violation: a method that writes a little into it
        weight = next(engine.backbone.unet.parameters())
        weight[0].add_(1e-3)
        assert state_hash(engine.backbone.unet) != before
        weight[0].sub_(1e-3)


@pytest.mark.parametrize("id", available())
def test_what_it_adds_is_counted(entries, id):
    method = entries[id].method
    for principle in PRINCIPLES:
        if principle.risk in entries[id].risks and hasattr(method, "artefact"):
            artefact = method.artefact(principle)
            assert artefact.bytes > 1000 and artefact.training["seconds"] >= 0 and artefact.training["command"]
    if hasattr(method, "artefact"):
        assert method.artefact(None) is None
