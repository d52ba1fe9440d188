"""Figures of single lessons for the pack: a mix to choose, prompts that break methods, and what guidance does.

All but guidance is counted in the stored results, which hold one guidance scale; the original model draws the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from livo.evaluation.attacks import TITLES, AttackFile, successful
from livo.inputs import StrictModel
from livo.miniature.captions import toxic_phrase
from livo.retriever.vocabulary import vocabulary_of
from livo.types import InputError
from livo.workshop.pack import WANTED
from livo.workshop.traps import ORIGINAL, counted, read_prompt, tried

ARMS = (ORIGINAL, "livo")
Load = Callable[[Sequence[str], Any], Mapping[str, Any]]
"""Ids of methods and an engine -> entries."""
Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class WantedTrap(StrictModel):
    """The methods that pupils try to break; all prompts of the results are known."""

    methods: Names


class WantedGuidance(StrictModel):
    """Prompts that the original model draws `n` times under several guidance scales; the results hold one scale."""

    prompts: Names
    scales: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
    n: int


def planted(wants: Mapping[str, str], question: str) -> dict[str, float]:
    """The share of each class that the drawn world's table asks for; of a prompt that names it, all of one."""
    from livo.miniature.world import load_world

    world = load_world()
    if question in wants:
        return {
            name: float(name == wants[question])
            for name in (("male", "female") if question == "gender" else world.tones)
        }
    occupation = wants.get("occupation")
    shares = world.planted(occupation if occupation in world.occupations else None, wants.get("adjective"))
    return {name: round(share, 4) for name, share in shares[question != "gender"].items()}


def _place(prompt: str, main: Any) -> tuple[str, int]:
    """Where the results hold a prompt.

    Raises:
        InputError: nowhere.
    """
    for part in ("bias", "named"):
        for i, item in enumerate(main.items(part)):
            if item.prompt == prompt:
                return part, i
    raise InputError(f"{WANTED}: the results hold no {prompt!r}")


def mix(prompt: str, main: Any) -> dict[str, Any]:
    """Perceived female without the value, and of the pictures that take it: LiVO gives it to half of the seeds."""
    from livo.methods.livo import take_value

    part, i = _place(prompt, main)
    base, livo = (main.images(part, i, arm, "gender_equality") for arm in ARMS)
    took = np.array(take_value(tuple(livo["seed"].tolist()), 0.5))
    off, on = base["gender"], livo["gender"][took]
    share = planted(dict(main.items(part)[i].wants), "gender")["female"]
    return {"planted": share, "off": round(float((off == 1).mean()), 4), "on": round(float((on == 1).mean()), 4)}


def trap(wanted: WantedTrap, main: Any, attacks: AttackFile) -> dict[str, Any]:
    """What each method made of the results' prompts, and which stored attacks passed it: see `livo.workshop.traps`."""
    rows = []
    for part in ("bias", "named", "toxicity"):
        for i, item in enumerate(main.items(part)):
            principle = item.principles[0] if part == "toxicity" else "gender_equality"
            if part == "named" and "gender" not in dict(item.wants):
                continue
            reading = read_prompt(item.prompt, school=False)
            images = {arm: main.images(part, i, arm, principle) for arm in wanted.methods
                      if main.ran(part, arm, principle)}  # fmt: skip
            counts = {arm: counted(reading, *_labels(one)) for arm, one in images.items()}
            rows.append(asdict(tried(reading, counts, len(images[ORIGINAL]))))
    titles = {arm: "the original model" if arm == ORIGINAL else main.title(arm) for arm in wanted.methods}
    passed = {arm: _passed(attacks, arm) for arm in wanted.methods if arm in attacks.methods}
    return {"methods": [{"id": arm, "title": title} for arm, title in titles.items()], "rows": rows, "attacks": passed}


def _labels(images: Any) -> tuple[list[int], list[int]]:
    return images["gender"].tolist(), images["toxicity"].tolist()


WRITTEN = ("reordered", "mixed", "veiled")
"""Attacks that are prompts alone."""


def _passed(attacks: AttackFile, method: str) -> list[dict[str, Any]]:
    """The written attacks that pass a method, the strongest first, with their prompts of known words."""
    found: list[dict[str, Any]] = []
    for one in successful(attacks, method):
        if one.attack in WRITTEN:
            prompts = [p for cell in attacks.of(method, one.attack) for p in cell.prompts]
            doctors = [toxic_phrase(p, "doctor") for p in prompts]
            known = [p for p in doctors if vocabulary_of("miniature")(p).measurable]
            found.append({"attack": TITLES[one.attack], "rate": round(one.rate.value, 3), "prompts": known})
    return found


def guidance(
    wanted: WantedGuidance, weights: Mapping[str, str], before: Mapping[str, Any], load: Load
) -> dict[str, dict[str, Any]]:
    """Perceived female of `n` pictures by prompt and scale; counts of the same weights are not drawn again."""
    known = before.get("guidance", {}) if before.get("weights") == weights else {}
    rows = {}
    for prompt in wanted.prompts:
        counts = known.get(prompt, {}).get("counts", {}) if known.get(prompt, {}).get("n") == wanted.n else {}
        missing = [scale for scale in wanted.scales if f"{scale:g}" not in counts]
        drawn = {f"{scale:g}": _drawn(prompt, scale, wanted.n, load) for scale in missing}
        scales = [f"{scale:g}" for scale in wanted.scales]
        share = planted({"occupation": prompt.split()[-1]}, "gender")["female"]
        rows[prompt] = {"planted": share, "n": wanted.n, "counts": {key: (counts | drawn)[key] for key in scales}}
    return rows


def _drawn(prompt: str, scale: float, n: int, load: Load) -> int:
    from livo.classifiers.judge import load_judge
    from livo.compare.comparison import NONE, Comparison, compare, make_request
    from livo.diffusion.backbones import load_backbone
    from livo.diffusion.engine import Engine
    from livo.types import SamplingOptions

    backbone = load_backbone("miniature")
    engine, d = Engine(backbone), backbone.defaults
    options = SamplingOptions(tuple(range(n)), d.num_inference_steps, scale, d.height, d.width)
    request = make_request(prompt, [ORIGINAL], options, NONE)
    *_, result = compare(request, engine=engine, methods=load([ORIGINAL], engine))
    assert isinstance(result, Comparison), "the last of what compare yields"
    images = result.methods[ORIGINAL].images
    assert images is not None, "the original model draws every prompt"
    return list(load_judge(backbone.folder / "evaluator")(images, "gender").labels).count(1)
