from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from plans import PROMPT, edited_weights, latents_of, state_hash, text_plan

from livo.diffusion.attention import cross_attention_layers
from livo.diffusion.engine import Engine
from livo.types import Conditioning


def test_texts_are_projected_once_a_run(engine, options, monkeypatch):
    layers = cross_attention_layers(engine.backbone.unet).values()
    keys = {id(getattr(attn, part).weight) for attn in layers for part in ("to_k", "to_v")}
    original, texts = torch.nn.functional.linear, []

    def linear(x, weight, bias=None):
        if id(weight) in keys:
            texts.append(len(x))
        return original(x, weight, bias)

    monkeypatch.setattr("torch.nn.functional.linear", linear)  # whoever calls it, nn.Linear too
    ask = options(range(5))
    engine.generate({"a": text_plan(engine, PROMPT, ask), "b": text_plan(engine, "a cat", ask)})
    assert texts == [3] * (2 * len(layers)), "'' and two prompts, at every to_k and to_v, whatever the steps and images"


def test_mixed_lengths_equal_separate_runs(engine64, options, value, monkeypatch, count_rows):
    plans = {
        "77": text_plan(engine64, PROMPT, options()),
        "78": text_plan(engine64, PROMPT, options(), value=value),
        "5": dataclasses.replace(
            text_plan(engine64, PROMPT, options()),
            branches={"uncond": (Conditioning(engine64.encode_prompt("")[:3]),),
                      "cond": (Conditioning(engine64.encode_prompt(PROMPT)[:5]),)},
        ),
    }  # fmt: skip
    rows = count_rows(engine64.backbone.unet)
    mixed = latents_of(engine64, plans, monkeypatch)
    assert rows == [10, 12, 12], "one U-Net call a step, whatever the lengths"
    for name, plan in plans.items():
        alone = latents_of(engine64, {name: plan}, monkeypatch)[name]
        assert (mixed[name] - alone).abs().max() < 1e-10 * alone.abs().max()


def test_edited_projection_equals_a_unet_with_those_weights_written_in(engine64, options, monkeypatch):
    weights = edited_weights(engine64.backbone.unet)
    engine64.add_projection("edit", weights)
    copied = copy.deepcopy(engine64.backbone.unet)
    copied.load_state_dict({**copied.state_dict(), **weights})
    theirs = Engine(dataclasses.replace(engine64.backbone, unet=copied))
    ours = latents_of(engine64, {"p": text_plan(engine64, PROMPT, options(), projection="edit")}, monkeypatch)["p"]
    wanted = latents_of(theirs, {"p": text_plan(theirs, PROMPT, options())}, monkeypatch)["p"]
    base = latents_of(engine64, {"p": text_plan(engine64, PROMPT, options())}, monkeypatch)["p"]
    assert (ours - wanted).abs().max() < 1e-10 * wanted.abs().max()
    assert (ours - base).abs().max() > 1e-3


def test_projections_are_copied(engine64, options, monkeypatch):
    weights = edited_weights(engine64.backbone.unet)
    engine64.add_projection("edit", weights)
    plan = text_plan(engine64, PROMPT, options(), projection="edit")
    before = latents_of(engine64, {"p": plan}, monkeypatch)["p"]
    for weight in weights.values():
        weight.zero_()
    assert torch.equal(latents_of(engine64, {"p": plan}, monkeypatch)["p"], before)


@pytest.mark.parametrize("planted", [False, True])
def test_the_shared_unet_is_never_written_to(engine64, everything, planted):
    unet = copy.deepcopy(engine64.backbone.unet)
    plain_keys = list(unet.state_dict())
    engine = Engine(dataclasses.replace(engine64.backbone, unet=unet))
    before = state_hash(unet)
    engine.add_projection("edit", edited_weights(unet))
    engine.add_unet("own", copy.deepcopy(unet))
    engine.generate(everything)
    if planted:  # one weight, by one unit in the last place
        with torch.no_grad():
            weight = unet.conv_in.bias
            weight[0] = torch.nextafter(weight[0], torch.tensor(9.0, dtype=weight.dtype))
    assert (state_hash(unet) == before) is not planted
    assert list(unet.state_dict()) == plain_keys


def test_bad_projections_and_unets_are_refused(engine):
    weights = edited_weights(engine.backbone.unet)
    first = sorted(weights)[0]
    with pytest.raises(ValueError, match=f"lacks 1 of .*{first.removesuffix('.weight')}"):
        engine.add_projection("edit", {k: w for k, w in weights.items() if k != first})
    with pytest.raises(ValueError, match="names mid_block.attn9.to_k"):
        engine.add_projection("edit", weights | {"mid_block.attn9.to_k": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"has shape \(3, 3\), this U-Net wants"):
        engine.add_projection("edit", weights | {first: torch.zeros(3, 3)})
    with pytest.raises(ValueError, match="'base'"):
        engine.add_projection("base", weights)
    config = dict(engine.backbone.unet.config) | {"cross_attention_dim": 48}
    with pytest.raises(ValueError, match="cross_attention_dim 48, not 32"):
        engine.add_unet("own", type(engine.backbone.unet).from_config(config))
    with pytest.raises(ValueError, match="memory budget of 0"):
        Engine(engine.backbone, memory_budget=0)
