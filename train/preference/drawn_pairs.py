"""Preference pairs of the drawn world, built as the paper's Sec. 3.4 builds them.

Bias: the model's own unspecified pictures of a concept are judged; an attribute with less than 1/N of them is
preferred, one with more is not. A pair is the same scene drawn with a preferred and with a dispreferred attribute.
Toxicity: the toxic picture is dispreferred, its clean counterpart preferred.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from livo.classifiers.judge import ClipJudge
from livo.diffusion.engine import Engine
from livo.live_training import SHARES, stored_shares
from livo.measures.metrics import wilson_interval
from livo.miniature.captions import article, caption, clean_counterpart
from livo.miniature.world import TOXIC_KINDS, Scene, World, draw_attributes
from livo.principles import attributes_by_principle
from livo.runs import weights_digest
from livo.types import MAX_SEED, Principle, SamplingOptions

ATTRIBUTES = attributes_by_principle(("gender", "tone"))  # what the drawn world draws
Losers = Literal["twin", "random"]
"""What a rejected picture is: the chosen one with the attribute changed, or any other picture of the same caption."""


@dataclass(frozen=True)
class Pair:
    """One sample (x, v, y_w, y_l); the images are scenes to render."""

    prompt: str
    principle: Principle
    chosen: Scene
    rejected: Scene


def training_concepts(world: World) -> tuple[list[str], list[str]]:
    """Occupations and adjectives that are not held out for evaluation."""
    held = world.held_out
    return (
        [o for o in world.occupations if o not in held["occupations"]],
        [a for a in world.adjectives if a not in held["adjectives"]],
    )


def training_wordings(world: World) -> list[int]:
    """Which of a toxic kind's wordings may be trained on; the other one is for evaluation."""
    return [w for w in range(4) if w != world.held_out["toxic_wording"]]


def _plain(shares: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, dict[str, int]]]:
    return {concept: {a: dict(counts) for a, counts in by.items()} for concept, by in shares.items()}


def measure_shares(
    engine: Engine, judge: ClipJudge, concepts: Mapping[str, str], path: Path, *, images: int = 24, num_steps: int = 12
) -> dict[str, dict[str, dict[str, int]]]:
    """How the unsteered model draws each concept: images per class of every attribute. Kept in `path` as it goes.

    Args:
        concepts: prompt by concept.
        path: JSON of what is known so far and of how it was made; the backbone's own `shares.json` serves where it
            is missing. What another generator, another judge or other options made is measured anew.
        images: how many to generate of each.

    Returns:
        By concept, by attribute ("gender", "tone"), images per class; abstentions left out.
    """
    from baselines.stable_diffusion import load

    backbone, sd = engine.backbone, load(engine)
    defaults = backbone.defaults
    made_by = {
        "generator": weights_digest(backbone.text_encoder, backbone.unet, backbone.vae),
        "judge": weights_digest(judge.model),
        "images": images,
        "num_steps": num_steps,
        "guidance_scale": defaults.guidance_scale,
    }
    stored = [stored_shares(folder, name) for folder, name in ((path.parent, path.name), (backbone.folder, SHARES))]
    shares = next((_plain(known.shares) for known in stored if known.made_by == made_by), {})
    missing = [item for item in concepts.items() if item[0] not in shares]
    for concept, prompt in tqdm(missing, desc="shares", disable=not missing):
        seeds = tuple(random.Random(concept).sample(range(MAX_SEED), images))
        options = SamplingOptions(seeds, num_steps, defaults.guidance_scale, defaults.height, defaults.width)
        pictures = engine.generate({"sd": sd.plan(prompt, None, options)})["sd"]
        features = judge.features(pictures)
        answers = {a: judge.ask(features, a) for a in ATTRIBUTES.values()}
        shares[concept] = {a: dict(zip(c.classes, c.counts, strict=True)) for a, c in answers.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".partial")
        scratch.write_text(json.dumps({"made_by": made_by, "shares": shares}, indent=1))
        scratch.replace(path)
    return shares


def preferred(counts: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Classes below 1/N and classes above it, each only where its 80 % Wilson interval excludes 1/N.

    Raises:
        ValueError: no image was placed.

    Example:
        >>> preferred({"male": 22, "female": 2})
        (['female'], ['male'])
        >>> preferred({"male": 13, "female": 11})
        ([], [])
    """
    n, even = sum(counts.values()), 1 / len(counts)
    low, high = [], []
    for name, count in counts.items():
        bottom, top = wilson_interval(count, n, confidence=0.8)
        if top < even:
            low.append(name)
        elif bottom > even:
            high.append(name)
    return (low, high) if low and high else ([], [])


class PairMaker:
    """Draws training pairs by seed.

    Args:
        world: the drawn world.
        principles: those to train, by id.
        shares: what `measure_shares` found; concepts held out for evaluation are left aside.
        mix: share of the pairs by principle id; toxic kinds share "toxicity". A principle that is not in it is left
            out.
        losers: "random" is as the paper's release pairs pictures: the two share the caption alone.

    Raises:
        ValueError: a principle against bias is in the mix, and no concept teaches it.
    """

    def __init__(
        self,
        world: World,
        principles: Sequence[Principle],
        shares: Mapping[str, Mapping[str, Mapping[str, int]]],
        mix: Mapping[str, float] | None = None,
        losers: Losers = "twin",
    ) -> None:
        self.world, self.losers = world, losers
        drawable = {*ATTRIBUTES, *TOXIC_KINDS}  # a principle of one's own is not: the world has no picture of it
        principles = [principle for principle in principles if principle.id in drawable]
        self.principles = {principle.id: principle for principle in principles}
        self.mix = dict(mix or {"gender_equality": 0.35, "racial_equality": 0.25, "toxicity": 0.4})
        self.toxic = [principle.id for principle in principles if principle.risk == "toxicity"]
        self.occupations, self.adjectives = training_concepts(world)
        self.sides: dict[str, list[tuple[str, list[str], list[str]]]] = {}
        concepts = [concept for concept in (*self.occupations, *self.adjectives) if concept in shares]
        for principle_id, attribute in ATTRIBUTES.items():
            if not self.mix.get(principle_id):
                continue
            placed = [concept for concept in concepts if any(shares[concept][attribute].values())]
            sided = [(concept, *preferred(shares[concept][attribute])) for concept in placed]
            self.sides[principle_id] = [row for row in sided if row[1]]
            if not self.sides[principle_id]:
                raise ValueError(f"no training concept has a biased {attribute}: nothing to learn for {principle_id}")

    def digest(self) -> str:
        """Which pairs these are: 16 hex digits of everything that `pair` reads."""
        everything = repr((self.world, self.principles, self.mix, self.sides))
        everything += "" if self.losers == "twin" else self.losers
        return hashlib.sha256(everything.encode()).hexdigest()[:16]

    def _balanced(self, principle_id: str, rng: random.Random) -> tuple[str, list[str], list[str]]:
        """A concept, drawn so that each class is the preferred one equally often."""
        rows = self.sides[principle_id]
        classes = sorted({name for _, low, _ in rows for name in low})
        wanted = rng.choice(classes)
        concept, _, high = rng.choice([row for row in rows if wanted in row[1]])
        return concept, [wanted], high if principle_id == "racial_equality" else high[:1]

    def pair(self, rng: random.Random) -> Pair:
        """One pair."""
        kind = rng.choices(list(self.mix), list(self.mix.values()))[0]
        opening = rng.choice(self.world.openings["train"])
        place = rng.choice(self.world.places) if rng.random() < 0.25 else None
        jitter = rng.getrandbits(32)
        if kind == "toxicity":
            occupation = rng.choice(self.occupations) if rng.random() < 0.85 else None
            adjective = rng.choice(self.adjectives) if rng.random() < 0.2 else None
            gender, tone = draw_attributes(self.world, occupation, adjective, rng)
            toxic = rng.choice(self.toxic)
            scene = Scene(occupation, adjective, place, None, gender, tone, toxic, None, jitter)
            wordings: list[int | str] = [*training_wordings(self.world), *self.world.toxic_paraphrases[toxic]]
            wording = rng.choice(wordings)
            named = rng.random() < 0.3
            text = caption(self.world, scene, opening, name_gender=named, wording=wording)
            fixed = {"gender"} if named else set()
            return Pair(text, self.principles[toxic], clean_counterpart(scene), self._loser(scene, fixed, rng))
        concept, low, high = self._balanced(kind, rng)
        occupation = concept if concept in self.world.occupations else None
        adjective = concept if concept in self.world.adjectives else None
        gender, tone = draw_attributes(self.world, occupation, adjective, rng)
        scene = Scene(occupation, adjective, place, None, gender, tone, None, None, jitter)
        attribute = ATTRIBUTES[kind]
        chosen = scene.with_attribute(attribute, rng.choice(low))
        rejected = scene.with_attribute(attribute, rng.choice(high))
        named = rng.random() < 0.15 and kind != "gender_equality"
        text = caption(self.world, chosen, opening, name_gender=named)
        fixed = {attribute, "gender"} if named else {attribute}
        return Pair(text, self.principles[kind], chosen, self._loser(rejected, fixed, rng))

    def _loser(self, scene: Scene, fixed: Collection[str], rng: random.Random) -> Scene:
        """The rejected scene: `scene` itself, the chosen one's twin, or another that its caption and label fit.

        Args:
            fixed: attributes that stay, since the pair is about them or the caption names them.
        """
        if self.losers == "twin":
            return scene
        drawn = dict(
            zip(("gender", "tone"), draw_attributes(self.world, scene.occupation, scene.adjective, rng), strict=True)
        )
        free: dict[str, Any] = {name: value for name, value in drawn.items() if name not in fixed}
        return replace(scene, jitter=rng.getrandbits(32), **free)


def concept_prompts(world: World) -> dict[str, str]:
    """The unspecified prompt of every training concept."""
    occupations, adjectives = training_concepts(world)
    prompts = {o: f"a photo of {article(o)} {o}" for o in occupations}
    return prompts | {a: f"a photo of {article(a)} {a} person" for a in adjectives}
