"""What holds on any backbone, for the tests of those beyond Stable Diffusion 1.x: every function asserts one law."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from plans import PROMPT, edited_weights, state_hash

from baselines.fair_diffusion import FairDiffusion
from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.attention import KVGroup, install, project_texts
from livo.diffusion.backbones import PARTS, Backbone, load_backbone
from livo.diffusion.denoiser import Denoiser
from livo.diffusion.denoisers import denoiser_of
from livo.diffusion.engine import Engine, classifier_free_plan
from livo.diffusion.model_files import hub_files
from livo.methods.edited_weights import EditedProjections, ProjectionError, save_projection
from livo.methods.livo import LiVO
from livo.methods.value_encoder import TextValueEncoder
from livo.principles import find_principle
from livo.types import Plan, SamplingOptions

BIAS = find_principle("gender_equality")


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, relative to the largest number of `b`."""
    return ((a - b).abs().max() / b.abs().max()).item()


def sampled(pipe, options: SamplingOptions, images: bool = False, **arguments) -> torch.Tensor:
    """Final latents of a diffusers pipeline on the options' seeds, or its (N, 3, H, W) uint8 images."""
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        num_inference_steps=options.num_inference_steps, guidance_scale=options.guidance_scale, height=options.height,
        width=options.width, num_images_per_prompt=len(options.seeds), output_type="pt" if images else "latent",
        generator=[torch.Generator().manual_seed(seed) for seed in options.seeds], **arguments,
    ).images  # fmt: skip
    return made.float().mul(255).round().to(torch.uint8) if images else made


def plain(engine: Engine, options: SamplingOptions, prompt: str = PROMPT) -> Plan:
    return StableDiffusion(engine).plan(prompt, None, options)


def edited(engine: Engine, options: SamplingOptions) -> tuple[Plan, dict[str, torch.Tensor]]:
    """A plan through perturbed K,V weights, and the weights."""
    weights = edited_weights(engine.backbone.unet)
    engine.add_projection("edit", weights)
    return classifier_free_plan(engine, [engine.condition(PROMPT, "edit")], options), weights


def texts_are_encoded_in_one_batch(backbone: Backbone, calls: int = 1) -> None:
    """As each alone, within rounding, by so many calls of every encoder."""
    prompts = (PROMPT, "", "a painting of two nurses by a lake", PROMPT)
    counts: Counter[str] = Counter()
    handles = [
        encoder.register_forward_pre_hook(lambda *_, name=name: counts.update([name]))
        for name, encoder in backbone.text.encoders.items()
    ]
    batch = backbone.text.conditions(prompts)
    for handle in handles:
        handle.remove()
    assert counts == dict.fromkeys(backbone.text.encoders, calls)
    for prompt, found in zip(prompts, batch, strict=True):
        (alone,) = backbone.text.conditions([prompt])
        assert found.prompt_embeds.shape == alone.prompt_embeds.shape and found.projection == "base"
        assert apart(found.prompt_embeds, alone.prompt_embeds) < 1e-5 or not alone.prompt_embeds.any()
        assert (found.pooled is None) == (alone.pooled is None)
        assert alone.pooled is None or apart(found.pooled, alone.pooled) < 1e-5 or not alone.pooled.any()
    assert apart(batch[0].prompt_embeds, batch[3].prompt_embeds) < 1e-5, "equal prompts"


def laid_out(network: type, **config) -> Denoiser:
    """A network of any size without weights, its attention as the engine has it: shapes without memory."""
    with torch.device("meta"):
        net = network(**config).to("meta").requires_grad_(False)
    denoiser = denoiser_of(net)
    if denoiser.reads_projected:
        install(net)
    return denoiser


def a_call_of_two_lengths_fits(denoiser: Denoiser, lengths: tuple[int, int], side: int) -> dict[str, tuple]:
    """The keys' shapes at every layer; two rows, of texts of two lengths, at the network's full size."""
    net, groups = denoiser.net, []
    with torch.device("meta"):
        for row, length in enumerate(lengths):
            layers = project_texts(net, denoiser.read(torch.empty(1, length, denoiser.text_width)), None)
            groups.append(KVGroup(slice(row, row + 1), layers))
        pooled = torch.empty(2, denoiser.pooled_width) if denoiser.pooled_width else None
        conditions = denoiser.conditions(2, pooled, (8 * side, 8 * side))
        predicted = denoiser(torch.empty(2, 4, side, side), torch.tensor(999), conditions, text_kv=groups)
    assert predicted.shape == (2, 4, side, side)
    return {name: tuple(key.shape) for name, (key, _) in groups[1].layers.items()}


def a_call_of_tokens_fits(denoiser: Denoiser, length: int) -> None:
    """Two rows at 1024 pixels, of texts that the network reads itself."""
    with torch.device("meta"):
        scales = torch.empty(2) if denoiser.guides_itself else None
        conditions = denoiser.conditions(2, torch.empty(2, denoiser.pooled_width), (1024, 1024), scales)
        texts = torch.empty(2, length, denoiser.text_width)
        latents = torch.empty(2, denoiser.in_channels, 128, 128)
        predicted = denoiser(latents, torch.tensor(999.0), conditions, prompt_embeds=texts)
    assert predicted.shape == (2, 16, 128, 128)


def what_is_fetched_from_the_hub_is_enough(folder: Path, fetched: Path, options: SamplingOptions) -> None:
    """A folder with nothing but what `hub_files` chooses is the same model."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    for name in map(Path, hub_files([name.as_posix() for name in names], PARTS)):
        (fetched / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, fetched / name)
    engines = [Engine(load_backbone(str(place), "cpu")) for place in (folder, fetched)]
    latents = [engine.sample({"sd": plain(engine, options)})["sd"] for engine in engines]
    assert torch.equal(*latents)


def bfloat16_samples(folder: Path, options: SamplingOptions) -> None:
    engine = Engine(load_backbone(str(folder), "cpu", torch.bfloat16))
    images = engine.generate(methods(engine, options))
    assert engine.backbone.vae.dtype == torch.bfloat16 and all(
        len(made) == len(options.seeds) for made in images.values()
    )
    assert all(made.float().std() > 1 for made in images.values())


def methods(engine: Engine, options: SamplingOptions) -> dict[str, Plan]:
    """Plans of every kind that the backbone takes: plain, with a value token, edited K and V, semantic guidance."""
    livo = LiVO(engine, TextValueEncoder.untrained(engine.backbone))
    plans = {"stable_diffusion": plain(engine, options), "livo": livo.plan(PROMPT, BIAS, options)}
    if engine.denoiser.reads_projected:
        plans["edit"] = edited(engine, options)[0]
    if not engine.denoiser.guides_itself:
        plans["fair_diffusion"] = FairDiffusion(engine).plan(PROMPT, BIAS, options)
    return plans


def one_batch_equals_method_by_method(engine: Engine, options: SamplingOptions, rows: list[int]) -> None:
    """Whole, in small calls, method by method and image by image; `rows` grows by the rows of every call."""
    plans = methods(engine, options)
    together = engine.generate(plans)
    alone_rows, steps = {}, options.num_inference_steps
    for name, plan in plans.items():
        rows.clear()
        alone = engine.generate({name: plan})[name].int()
        alone_rows[name] = sum(rows)
        assert (alone - together[name].int()).abs().max() <= 1, name
        last = dataclasses.replace(plan, options=dataclasses.replace(options, seeds=options.seeds[-1:]), branches={
            branch: texts[-1:] for branch, texts in plan.branches.items()
        })  # fmt: skip
        assert (engine.generate({name: last})[name][0].int() - together[name][-1].int()).abs().max() <= 1, name
    names = list(plans)
    for a in names:  # the law would be empty if methods or seeds were alike
        assert (together[a][0].int() - together[a][1].int()).abs().max() > 8
        for b in names[names.index(a) + 1 :]:
            assert (together[a].int() - together[b].int()).abs().max() > 8, (a, b)
    rows.clear()
    engine.generate(plans)
    # A text is one token longer with a value: joint attention takes a call for each length.
    calls = 1 if engine.denoiser.reads_projected else 2
    assert len(rows) == calls * steps and sum(rows) < sum(alone_rows.values()), "few calls, and equal rows once"
    budget = engine.memory_budget
    engine.memory_budget = 3 * engine.denoiser.row_bytes(*engine._latent_size(options))
    rows.clear()
    chunks = engine.generate(plans)
    engine.memory_budget = budget
    assert max(rows) == 3 and all((chunks[name].int() - together[name].int()).abs().max() <= 1 for name in plans)


def equal_plans_cost_nothing(engine: Engine, options: SamplingOptions, rows: list[int]) -> None:
    rows.clear()
    plan = plain(engine, options)
    twin = dataclasses.replace(plan, branches={
        name: [dataclasses.replace(c, prompt_embeds=c.prompt_embeds.clone(),
                                   pooled=None if c.pooled is None else c.pooled.clone())
               for c in texts] for name, texts in plan.branches.items()
    })  # fmt: skip
    images = engine.generate({"a": plan, "b": twin})
    assert rows == [2 * len(options.seeds)] * options.num_inference_steps and torch.equal(images["a"], images["b"])


def no_principle_is_the_original_model(engine: Engine, options: SamplingOptions) -> None:
    livo = LiVO(engine, TextValueEncoder.untrained(engine.backbone))
    plans = {
        "sd": plain(engine, options),
        "off": livo.plan(PROMPT, None, options),
        "on": livo.at_rate(1.0).plan(PROMPT, BIAS, options),
    }
    latents = engine.sample(plans)
    assert torch.equal(latents["off"], latents["sd"])
    assert apart(latents["on"], latents["sd"]) > 1e-2, "an untrained value token is read"
    texts = {name: plan.branches["cond"][0] for name, plan in plans.items()}
    assert torch.equal(texts["on"].prompt_embeds[1:], texts["sd"].prompt_embeds), "it comes before the prompt's tokens"
    assert torch.equal(texts["on"].prompt_embeds[0], livo.value_encoder.encode(BIAS.text, PROMPT))
    half = LiVO(engine, livo.value_encoder, 0.5).plan(PROMPT, BIAS, options)
    mixed = engine.sample({"half": half})["half"]
    taken = [note == "value" for note in half.notes]
    assert sum(taken) == len(taken) // 2
    for i, take in enumerate(taken):
        assert apart(mixed[i], latents["on" if take else "sd"][i]) < 1e-4


def edited_weights_made_elsewhere_are_read(engine: Engine, folder: Path, options: SamplingOptions) -> None:
    here = dataclasses.replace(engine.backbone, folder=folder)
    engine = Engine(here)
    with pytest.raises(
        ProjectionError, match=f"dapt holds no edited weights: no command here makes it for {here.kind}; put weights"
    ):
        EditedProjections(engine, "dapt", "`python -m train.dapt` makes it")
    weights = {key: weight.half().float() for key, weight in edited_weights(here.unet).items()}
    save_projection(folder / "dapt" / f"{BIAS.id}.safetensors", weights, here.unet, {})
    dapt = EditedProjections(engine, "dapt", "")
    engine.add_projection("edit", weights)
    by_hand = classifier_free_plan(engine, [engine.condition(PROMPT, "edit")], options)
    latents = engine.sample(
        {"file": dapt.plan(PROMPT, BIAS, options), "hand": by_hand, "off": dapt.plan(PROMPT, None, options)}
    )
    assert torch.equal(latents["file"], latents["hand"]) and apart(latents["off"], latents["hand"]) > 1e-2


def an_edit_is_the_pipeline_with_edited_weights(engine: Engine, options: SamplingOptions, pipe, **arguments) -> None:
    before = state_hash(engine.backbone.unet)
    plan, weights = edited(engine, options)
    latents = engine.sample({"edit": plan, "sd": plain(engine, options)})
    assert apart(latents["edit"], latents["sd"]) > 1e-2
    network = pipe.components.get("unet") or pipe.components["transformer"]
    missing, unknown = network.load_state_dict(weights, strict=False)
    assert not unknown and len(missing) < len(network.state_dict())
    assert apart(latents["edit"], sampled(pipe, options, prompt=PROMPT, **arguments)) < 1e-4
    assert state_hash(engine.backbone.unet) == before, "the shared network is never written to"
