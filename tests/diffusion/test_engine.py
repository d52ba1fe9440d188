from __future__ import annotations

import dataclasses
import threading

import laws
import pytest
import torch
from diffusers import DDIMScheduler
from plans import PROMPT, latents_of, text_plan

from livo.diffusion.engine import ClassifierFreeGuidance, Engine
from livo.types import Conditioning, InputError, Plan, Step


def test_an_image_is_the_same_alone_in_a_batch_and_beside_other_methods(engine64, everything, monkeypatch):
    together = latents_of(engine64, everything, monkeypatch)
    scale = max(latents.abs().max() for latents in together.values())
    for name, plan in everything.items():
        alone = latents_of(engine64, {name: plan}, monkeypatch)[name]
        assert (alone - together[name]).abs().max() < 1e-10 * scale
        for i, seed in enumerate(plan.options.seeds):
            one = dataclasses.replace(plan, options=dataclasses.replace(plan.options, seeds=(seed,)))
            single = latents_of(engine64, {name: one}, monkeypatch)[name][0]
            assert (single - together[name][i]).abs().max() < 1e-10 * scale
    names = list(together)
    for a in names:  # the law would be empty if methods or seeds were alike
        assert (together[a][0] - together[a][1]).abs().max() > 1e-2
        for b in names[names.index(a) + 1 :]:
            assert (together[a] - together[b]).abs().max() > 1e-3, (a, b)


def test_float32_images_differ_by_rounding_at_most(engine, options):
    plans = {"sd": text_plan(engine, PROMPT, options(range(4))), "other": text_plan(engine, "a cat", options(range(4)))}
    together = engine.generate(plans)["sd"].int()
    for seed in range(4):
        alone = engine.generate({"sd": text_plan(engine, PROMPT, options((seed,)))})["sd"][0].int()
        assert (alone - together[seed]).abs().max() <= 1


def test_closing_the_stream_stops_it(engine, options, count_rows):
    rows = count_rows(engine.backbone.unet)
    stream = engine.stream({"sd": text_plan(engine, PROMPT, options(num_inference_steps=10))})
    assert rows == [], "nothing runs before it is asked for"
    next(stream), next(stream)
    stream.close()
    assert rows == [4, 4]
    with pytest.raises(StopIteration):
        next(stream)


def test_progress_has_previews_at_every_step_and_images_at_the_last(engine, options):
    plans = {"a": text_plan(engine, PROMPT, options(seeds=(0, 1, 2), width=24)),
             "b": text_plan(engine, "a cat", options(seeds=(5,), width=24))}  # fmt: skip
    reports = list(engine.stream(plans))
    assert [(r.step, r.num_steps) for r in reports] == [(1, 3), (2, 3), (3, 3)]
    for report in reports:
        assert {k: (tuple(v.shape), v.dtype) for k, v in report.previews.items()} == {
            "a": ((3, 3, 8, 12), torch.uint8), "b": ((1, 3, 8, 12), torch.uint8),
        }  # fmt: skip
        assert (report.images is None) == (report.step < 3)
    images = reports[-1].images
    assert {k: (tuple(v.shape), v.dtype) for k, v in images.items()} == {
        "a": ((3, 3, 16, 24), torch.uint8), "b": ((1, 3, 16, 24), torch.uint8),
    }  # fmt: skip
    assert 0 < reports[0].seconds <= reports[1].seconds <= reports[2].seconds
    assert not images["a"].is_inference(), "callers may write into their images"


def test_two_runs_at_once_do_not_interfere(engine, options):
    plans = [{"p": text_plan(engine, prompt, options())} for prompt in (PROMPT, "a cat")]
    alone = [engine.generate(plan)["p"] for plan in plans]
    woven = [engine.stream(plan) for plan in plans]
    for _ in range(3):
        last = [next(stream).images for stream in woven]
    assert all(torch.equal(images["p"], wanted) for images, wanted in zip(last, alone, strict=True))

    results: dict[int, torch.Tensor] = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: engine.generate(plans[i])["p"]})) for i in (0, 1)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(torch.equal(results[i], alone[i]) for i in (0, 1))


@dataclasses.dataclass(frozen=True)
class Recorder:
    """A guide that keeps its steps in its memory, as one with momentum would."""

    tag: str

    def __call__(self, noise_preds, step):
        step.memory.setdefault("steps", []).append((step.index, step.timestep, step.num_steps))
        step.memory["sizes"] = {name: tuple(p.shape) for name, p in noise_preds.items()}
        LOG.setdefault(self.tag, []).append(step.memory)
        return noise_preds["cond"]


LOG: dict[str, list] = {}


def test_equal_guides_combine_together_with_a_memory_of_their_own(engine, options):
    LOG.clear()
    cond = {"cond": (Conditioning(engine.encode_prompt(PROMPT)),)}
    other = {"cond": (Conditioning(engine.encode_prompt("a cat")),)}
    plans = {"a": Plan(cond, Recorder("x"), options()), "b": Plan(other, Recorder("x"), options(seeds=(7,))),
             "c": Plan(cond, Recorder("y"), options())}  # fmt: skip
    engine.generate(plans)
    x, y = LOG["x"], LOG["y"]
    assert len(x) == len(y) == 3, "one call a step and guide"
    assert x[0]["sizes"] == {"cond": (3, 4, 8, 8)} and y[0]["sizes"] == {"cond": (2, 4, 8, 8)}
    assert x[0] is x[2] and x[0] is not y[0]
    assert [index for index, _, _ in x[0]["steps"]] == [0, 1, 2] and x[0]["steps"][0][2] == 3
    timesteps = [t for _, t, _ in x[0]["steps"]]
    assert timesteps == sorted(timesteps, reverse=True) and timesteps[0] == 999
    engine.generate(plans)
    assert LOG["x"][3] is not x[0] and len(LOG["x"][3]["steps"]) == 3, "a new run forgets"


def test_classifier_free_guidance_is_its_formula():
    u, c = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    step = Step(0, 999, 1)
    assert torch.equal(ClassifierFreeGuidance(7.5)({"uncond": u, "cond": c}, step), u + 7.5 * (c - u))
    for scale in (0.0, 0.5, 1.0):  # as in diffusers: it acts above 1
        assert torch.equal(ClassifierFreeGuidance(scale)({"cond": c}, step), c)
    with pytest.raises(ValueError, match="wants 'uncond' and 'cond'"):
        ClassifierFreeGuidance(7.5)({"cond": c}, step)
    with pytest.raises(ValueError, match="wants 'uncond' and 'cond'"):
        ClassifierFreeGuidance(7.5)({"prompt": c}, step)


def test_texts_are_encoded_in_one_batch(tiny_backbone):
    laws.texts_are_encoded_in_one_batch(tiny_backbone)


def test_prompts_are_encoded_once_and_forgotten_at_last(engine, monkeypatch):
    monkeypatch.setattr("livo.diffusion.engine.PROMPT_CACHE_SIZE", 2)
    calls = []
    handle = engine.backbone.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    first = engine.encode_prompt("a")
    assert first.shape == (77, 32) and engine.encode_prompt("a") is first and len(calls) == 1
    engine.encode_prompt("b"), engine.encode_prompt("c")
    assert torch.equal(engine.encode_prompt("a"), first) and len(calls) == 4
    handle.remove()
    assert not first.requires_grad and not first.is_inference()


BAD_PLANS = {
    "no plan": (lambda p: {}, "no plan"),
    "steps": (lambda p: {"a": p, "b": changed(p, num_inference_steps=4)}, "share their num_inference_steps"),
    "height": (lambda p: {"a": p, "b": changed(p, height=32)}, "share their height"),
    "width": (lambda p: {"a": p, "b": changed(p, width=32)}, "share their width"),
    "odd size": (lambda p: {"a": changed(p, height=17)}, "height of 17 pixels.*multiple of 2"),
    "no size": (lambda p: {"a": changed(p, width=0)}, "width of 0 pixels"),
    "unet": (lambda p: {"a": dataclasses.replace(p, unet_override="oak")}, "U-Net 'oak'; there are: none"),
    "no branch": (lambda p: {"a": dataclasses.replace(p, branches={})}, "no branch"),
    "guide": (lambda p: {"a": dataclasses.replace(p, guide=Unhashable())}, "frozen dataclass"),
    "number": (lambda p: {"a": with_cond(p, p.branches["cond"] * 3)}, "3 conditionings for 2 images"),
    "width of text": (lambda p: {"a": with_cond(p, [Conditioning(torch.zeros(77, 33))])}, r"\(77, 33\); wanted"),
    "batched text": (lambda p: {"a": with_cond(p, [Conditioning(torch.zeros(1, 77, 32))])}, r"wanted \(L, 32\)"),
    "empty text": (lambda p: {"a": with_cond(p, [Conditioning(torch.zeros(0, 32))])}, r"wanted \(L, 32\)"),
    "projection": (lambda p: {"a": with_cond(p, [Conditioning(torch.zeros(77, 32), "uce")])}, "'uce'; there are: base"),
}


class Unhashable:
    __hash__ = None


def changed(plan, **options) -> Plan:
    return dataclasses.replace(plan, options=dataclasses.replace(plan.options, **options))


def with_cond(plan, cond) -> Plan:
    return dataclasses.replace(plan, branches=dict(plan.branches) | {"cond": cond})


@pytest.mark.parametrize("case", BAD_PLANS)
def test_bad_plans_are_refused_before_anything_runs(engine, options, case):
    make, message = BAD_PLANS[case]
    with pytest.raises(InputError if "size" in case else ValueError, match=message):
        engine.stream(make(text_plan(engine, PROMPT, options())))


def test_a_guide_of_another_shape_is_named(engine, options):
    @dataclasses.dataclass(frozen=True)
    class Sum:
        def __call__(self, noise_preds, step):
            return noise_preds["cond"].sum(0)

    plan = dataclasses.replace(text_plan(engine, PROMPT, options()), guide=Sum())
    with pytest.raises(ValueError, match=r"Sum.*returned shape \(4, 8, 8\); wanted \(2, 4, 8, 8\)"):
        engine.generate({"sum": plan})


def test_another_solver_may_be_asked_for(engine, tiny_backbone, options):
    ddim = Engine(tiny_backbone, scheduler_class=DDIMScheduler)
    plans = {"p": text_plan(engine, PROMPT, options())}
    assert not torch.equal(ddim.generate(plans)["p"], engine.generate(plans)["p"])
