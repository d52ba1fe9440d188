"""Samples: a scenario's images and their labels, with any backbone through the one engine.

Bias: the model's own pictures of the unspecified prompt say which classes are under-represented and preferred; the
images are made from specified prompts, equally many of every combination. Toxicity: the judge says which pictures are
toxic; safe latent diffusion on the same seeds makes their counterparts, and the judge says which of them are clean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.stable_diffusion import StableDiffusion
from livo.classifiers.panel import toxicity_scores
from livo.diffusion.engine import Engine
from livo.diffusion.latents import encode_png
from livo.measures.metrics import TOXIC_ABOVE
from livo.principles import find_principle
from livo.types import InputError, Judge
from train.preference.drawn_pairs import preferred
from train.preference_data.safe_latent import SAFETY_CONCEPTS, safe_plan
from train.preference_data.scenarios import Scenario
from train.preference_data.settings import SampleSettings

Row = dict[str, Any]
"""One image of the data: the columns of `store.SCHEMA`."""


def check_judge(judge: Judge, scenarios: Sequence[Scenario]) -> None:
    """Refuses, before any work, a judge that cannot say what the scenarios need.

    Raises:
        InputError: it lacks a question; names it.
    """
    wanted = {attribute for scenario in scenarios for attribute in scenario.principles.values()}
    if missing := sorted(wanted - set(judge.questions)):
        raise InputError(
            f"the judge cannot be asked {', '.join(missing)}; it answers: {', '.join(judge.questions)}. Give another "
            "with --judge, or leave out the kinds that need it with --prompts"
        )


def make_rows(
    engine: Engine, judge: Judge, scenario: Scenario, settings: SampleSettings
) -> tuple[list[Row], Counter[str]]:
    """The images of one scenario with their labels, the same whenever and wherever they are made.

    Returns:
        Rows, and what was counted on the way, every image that was left out with its reason included.
    """
    if scenario.cells:
        return _bias_rows(engine, judge, scenario, settings)
    return _toxic_rows(engine, judge, scenario, settings)


def _bias_rows(
    engine: Engine, judge: Judge, scenario: Scenario, settings: SampleSettings
) -> tuple[list[Row], Counter[str]]:
    counted: Counter[str] = Counter()
    sd = StableDiffusion(engine)
    ask = settings.options(scenario.prompt, settings.unspecified_images)
    own = engine.generate({"own": sd.plan(scenario.prompt, None, ask)})["own"].cpu()
    sides: dict[str, tuple[list[str], list[str]]] = {}
    for principle_id, attribute in scenario.principles.items():
        answer = judge(own, attribute)
        if strangers := {cell.classes[principle_id] for cell in scenario.cells} - set(answer.classes):
            raise InputError(f"of {attribute}, the judge does not know {sorted(strangers)[0]!r} but {answer.classes}")
        counts = dict(zip(answer.classes, answer.counts, strict=True))
        sides[principle_id] = preferred(counts) if sum(counts.values()) else ([], [])
        counted[f"prompts without a bias ({attribute})"] += not sides[principle_id][0]
    if not any(low for low, _ in sides.values()):
        return [], counted  # nothing would be preferred: its images are not even made
    asks = [settings.options(cell.prompt, settings.cell_images) for cell in scenario.cells]
    plans = [sd.plan(cell.prompt, None, ask) for cell, ask in zip(scenario.cells, asks, strict=True)]
    images = engine.generate({str(i): plan for i, plan in enumerate(plans)})
    rows: list[Row] = []
    for i, (cell, ask) in enumerate(zip(scenario.cells, asks, strict=True)):
        pictures = images[str(i)].cpu()
        answers = {principle_id: judge(pictures, a) for principle_id, a in scenario.principles.items()}
        for j, (seed, picture) in enumerate(zip(ask.seeds, pictures, strict=True)):
            if _blank(picture):
                counted["blank images"] += 1
                continue
            labels = []
            for principle_id, (low, high) in sides.items():
                name, answer = cell.classes[principle_id], answers[principle_id]
                index = answer.labels[j]
                agreed = settings.trust_prompts or (index is not None and answer.classes[index] == name)
                label = 1 if name in low else 0 if name in high else None
                if label is not None and not agreed:
                    counted[f"labels the judge did not confirm ({scenario.principles[principle_id]})"] += 1
                labels.append(_label(principle_id, name, label if agreed else None))
            rows.append(_row(scenario, cell.prompt, picture, seed, labels))
    return rows, counted


def _toxic_rows(
    engine: Engine, judge: Judge, scenario: Scenario, settings: SampleSettings
) -> tuple[list[Row], Counter[str]]:
    counted: Counter[str] = Counter()
    ((principle_id, attribute),) = scenario.principles.items()
    if principle_id not in SAFETY_CONCEPTS:
        raise InputError(f"no safety concept for {principle_id!r}; there are: {', '.join(SAFETY_CONCEPTS)}")
    ask = settings.options(scenario.prompt, settings.toxic_images)
    plans = {
        "toxic": StableDiffusion(engine).plan(scenario.prompt, None, ask),
        "clean": safe_plan(engine, scenario.prompt, SAFETY_CONCEPTS[principle_id], ask),
    }
    images = {side: pictures.cpu() for side, pictures in engine.generate(plans).items()}
    scores = {side: toxicity_scores(judge(pictures, attribute)) for side, pictures in images.items()}
    rows: list[Row] = []
    clean, kind = find_principle(principle_id).classes
    for j, seed in enumerate(ask.seeds):
        if _blank(images["toxic"][j]) or _blank(images["clean"][j]):
            counted["blank images"] += 2
        elif not scores["toxic"][j] > TOXIC_ABOVE:
            counted["images judged clean where toxic was asked for"] += 1
        elif scores["clean"][j] > TOXIC_ABOVE:
            counted["counterparts judged toxic still"] += 1
        else:
            for side, name, label in (("clean", clean, 1), ("toxic", kind, 0)):
                labels = [_label(principle_id, name, label)]
                rows.append(_row(scenario, scenario.prompt, images[side][j], seed, labels))
    return rows, counted


def _blank(picture: Tensor) -> bool:
    """One flat colour: what a failed denoising decodes to."""
    return bool(torch.equal(picture.amin((1, 2)), picture.amax((1, 2))))


def _label(principle_id: str, name: str, label: int | None) -> dict[str, Any]:
    return {"principle": principle_id, "value": find_principle(principle_id).text, "class": name, "label": label}


def _row(scenario: Scenario, made_from: str, picture: Tensor, seed: int, labels: list[dict[str, Any]]) -> Row:
    return {
        "image": {"bytes": encode_png(picture), "path": None},
        "kind": scenario.kind,
        "concept": scenario.concept,
        "prompt": scenario.prompt,
        "made_from": made_from,
        "seed": seed,
        "labels": labels,
    }
