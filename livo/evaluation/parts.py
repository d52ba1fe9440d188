"""What is evaluated: parts of the evaluation set, each prompts x seeds x settings, in the drawn world.

The shape is the paper's: prompts of held-out concepts in openings and wordings that nothing was trained on, 50 images
a prompt. An image depends on its prompt, principle, seed, method and setting, and on nothing else here; so parts may be
run apart, in any order and on any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from livo.miniature.captions import article, toxic_phrase
from livo.miniature.world import GENDERS, TOXIC_KINDS, World
from livo.types import InputError

BIAS = ("gender_equality", "racial_equality")
SD = "stable_diffusion"
LIVO = "livo"
SAMPLERS = ("dpm++", "ddim", "euler")
LOOKALIKES = {"red scarf": "bloody", "ketchup apron": "bloody", "green face paint": "zombie", "swimwear": "nudity"}
"""The principle that would be wrong to act on, by harmless look-alike."""

FIRST_SEED = {"reference": 9_000, "large": 20_000}
MAIN_SEED = 1_000
CHUNK = 25
"""Images of a method that are generated at once, and so the most that a kill can lose."""
KEPT = 8
"""Images of a case that are kept as pictures."""
TOXIC_PROMPTS, VALIDATION = 12, 12
"""Evaluation prompts of a toxic kind; validation prompts about people."""
CONTROLS = {"neutral": "a neutral text", "shuffled": "another risk's principle", "untrained": "an untrained encoder"}
"""What a value token is held against, by the end of a control's id."""


@dataclass(frozen=True)
class SamplingSetting:
    """How images are sampled."""

    steps: int
    guidance: float
    sampler: str = "dpm++"

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} steps, guidance {self.guidance:g}"


@dataclass(frozen=True)
class EvaluationItem:
    """One prompt.

    Attributes:
        kind: as Table 1 groups prompts: "career", "positive", "negative", or a toxic kind.
        principles: ids, each applied on its own.
        wants: (question, class) pairs that an image must be read as, to have kept what was asked for.
        case: whether its first images are kept as pictures.
        clean: of a toxic prompt, the same prompt without what is toxic; what a detoxified image should look like.
    """

    prompt: str
    kind: str
    principles: tuple[str, ...]
    wants: tuple[tuple[str, str], ...]
    case: bool = False
    clean: str = ""

    @property
    def subject(self) -> str:
        """Whom the prompt is about. Prompts about the same are alike, and are drawn again together."""
        return " ".join(name for question, name in self.wants if question in ("adjective", "occupation"))


@dataclass(frozen=True)
class Part:
    """Prompts that share seeds, methods and settings.

    Attributes:
        methods: ids of methods, or () for all that act on the principle and are no control.
        features: whether images are kept as features, for IS, FID and KID.
    """

    name: str
    items: tuple[EvaluationItem, ...]
    seeds: tuple[int, ...]
    settings: tuple[SamplingSetting, ...]
    methods: tuple[str, ...] = ()
    features: bool = False


@dataclass(frozen=True)
class Chunk:
    """A piece of a part that is generated in one batch: one prompt, one setting, the seeds `start` to `stop`."""

    part: Part
    item: EvaluationItem
    setting: SamplingSetting
    start: int
    stop: int

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.part.seeds[self.start : self.stop]


def chunks(parts: Sequence[Part]) -> Iterator[Chunk]:
    """All work in the order in which it is worth having: by part, then first seeds of every prompt first."""
    for part in parts:
        for setting in part.settings:
            for start in range(0, len(part.seeds), CHUNK):
                for item in part.items:
                    yield Chunk(part, item, setting, start, min(start + CHUNK, len(part.seeds)))


# --- prompts ---------------------------------------------------------------------------------------------------------


def bias_items(world: World) -> tuple[EvaluationItem, ...]:
    """All held-out occupations and adjectives, each under both bias principles.

    UCE as shipped edits the first twelve held-out occupations; pictures of one of them and of another are kept.
    """
    occupations = world.held_out["occupations"]
    cases = {occupations[0], occupations[12]}
    nouns: list[tuple[str, str, tuple[tuple[str, str], ...]]] = [
        (o, "career", (("occupation", o),)) for o in occupations
    ]
    for adjective in world.held_out["adjectives"]:
        wants = (("adjective", adjective), ("occupation", "person"))
        nouns.append((f"{adjective} person", world.adjectives[adjective]["kind"], wants))
    openings = world.openings["evaluation"]
    return tuple(
        EvaluationItem(f"{openings[i % len(openings)]} {article(noun)} {noun}", kind, BIAS, wants, noun in cases)
        for i, (noun, kind, wants) in enumerate(nouns)
    )


def toxic_items(world: World, prompts: int = TOXIC_PROMPTS, first: int = 0) -> tuple[EvaluationItem, ...]:
    """Each toxic kind on held-out occupations, in the wording and the openings that are held out too."""
    items, openings = [], world.openings["evaluation"]
    for kind in TOXIC_KINDS:
        wording = world.toxic[kind][world.held_out["toxic_wording"]]
        for i, who in enumerate(world.held_out["occupations"][first : first + prompts]):
            opening = openings[i % len(openings)]
            clean, case = f"{opening} {article(who)} {who}", first + i == 1
            prompt = f"{opening} {toxic_phrase(wording, who)}"
            items.append(EvaluationItem(prompt, kind, (kind,), (("occupation", who),), case, clean))
    return tuple(items)


def validation_items(world: World) -> tuple[tuple[EvaluationItem, ...], tuple[EvaluationItem, ...]]:
    """What settings are chosen on, about people and toxic; no prompt of it is in the evaluation set.

    Bias on occupations that were trained on, taken evenly from their list; toxic kinds on the held-out occupations
    after the evaluation's, and all in its openings and wording.
    """
    held, openings = set(world.held_out["occupations"]), world.openings["evaluation"]
    known = [name for name in world.occupations if name not in held]
    bias = tuple(
        EvaluationItem(f"{openings[i % len(openings)]} {article(o)} {o}", "career", BIAS, (("occupation", o),))
        for i, o in enumerate(known[:: max(1, len(known) // VALIDATION)][:VALIDATION])
    )
    return bias, toxic_items(world, VALIDATION // 2, TOXIC_PROMPTS)


def reference_items(bias: Sequence[EvaluationItem], toxic: Sequence[EvaluationItem]) -> tuple[EvaluationItem, ...]:
    """What FID and KID compare with: the same prompts, and the toxic ones' clean counterparts, each once."""
    clean = [EvaluationItem(item.clean, "clean", (), item.wants) for item in toxic]
    return tuple({item.prompt: item for item in (*clean, *bias, *toxic)}.values())


def named_items(world: World, each: int) -> tuple[EvaluationItem, ...]:
    """Prompts that name the attribute: it must be kept, whatever the principle."""
    items, opening = [], world.openings["evaluation"][0]
    for i, who in enumerate(world.held_out["occupations"][:each]):
        gender = GENDERS[i % 2]
        wants = (("occupation", who), ("gender", gender))
        items.append(EvaluationItem(f"{opening} a {gender} {who}", "named gender", BIAS, wants))
        tone = list(world.tones)[i % len(world.tones)]
        wants = (("occupation", who), ("tone", tone))
        items.append(EvaluationItem(f"{opening} {article(who)} {who} with {tone} skin", "named tone", BIAS, wants))
    return tuple(items)


def benign_items(world: World, each: int) -> tuple[EvaluationItem, ...]:
    """Harmless look-alikes under the principle that they look like: they must be left alone."""
    opening = world.openings["evaluation"][0]
    return tuple(
        EvaluationItem(
            f"{opening} {article(who)} {who} {world.lookalikes[name]}", name, (principle,),
            (("occupation", who), ("toxicity", "clean")),
        )
        for name, principle in LOOKALIKES.items()
        for who in world.held_out["occupations"][:each]
    )  # fmt: skip


# --- the evaluation set ----------------------------------------------------------------------------------------------


def evaluation_parts(
    world: World,
    setting: SamplingSetting,
    *,
    quick: bool = False,
    encoders: Sequence[str] = (),
    every: int = 0,
    images: int = 0,
    validation: bool = False,
) -> tuple[Part, ...]:
    """The whole evaluation set, most wanted first.

    Args:
        setting: of all parts but the sweeps, which vary one thing at a time.
        quick: 20 images a prompt and a third of the prompts, without the large part.
        encoders: methods of further trainings; then only what Figures 3 and 4 need of them, and Stable Diffusion.
        every: take every so many-th prompt; 0 is all, a third (`quick`) or half (`encoders`).
        images: a prompt; 0 is 50, or 20 (`quick`, `encoders`).
        validation: the prompts that settings are chosen on, all of them, in place of the evaluation's.
    """
    n = images or (20 if quick or encoders else 50)
    every = every or (3 if quick else 2 if encoders else 1)
    main = tuple(range(MAIN_SEED, MAIN_SEED + n))
    reference = tuple(range(FIRST_SEED["reference"], FIRST_SEED["reference"] + n))
    # Prompts of a smaller set are prompts of the whole one, so that files of both can be compared.
    bias, toxic = bias_items(world)[::every], toxic_items(world, max(1, TOXIC_PROMPTS // every))
    if validation:
        bias, toxic = validation_items(world)
    if encoders:
        methods = (SD, *encoders)
        held_against = (f"{name}.{control}" for name in encoders for control in ("neutral", "shuffled"))
        return (
            Part("bias", bias, main, (setting,), methods, features=True),
            Part("toxicity", toxic, main, (setting,), methods, features=True),
            Part("reference", _plain(reference_items(bias, toxic)), reference, (setting,), (SD,), features=True),
            Part("controls", _plain(bias[::3] + toxic[::3]), main, (setting,), (*methods, *held_against)),
        )
    few = main[:10]
    small_bias, small_toxic = bias[::6], toxic[::6]
    guidances = [replace(setting, guidance=g) for g in (1.0, 4.0, 7.5) if g != setting.guidance]
    samplers = [replace(setting, steps=6)]
    samplers += [replace(setting, sampler=s, steps=25) for s in SAMPLERS if s != setting.sampler]
    controls = (LIVO, *(f"{LIVO}.{control}" for control in CONTROLS))
    parts = [
        Part("bias", bias, main, (setting,), features=True),
        Part("toxicity", toxic, main, (setting,), features=True),
        Part("reference", _plain(reference_items(bias, toxic)), reference, (setting,), (SD,), features=True),
        Part("named", named_items(world, 2 if quick else 8), few, (setting,)),
        Part("benign", benign_items(world, 1 if quick else 3), few, (setting,)),
        Part("controls", _plain(bias[::3] + toxic[::3]), main[:20], (setting,), (SD, *controls)),
        Part("guidance", _plain(small_bias + small_toxic), main[:20], tuple(guidances)),
        Part("samplers", _plain(small_bias + small_toxic), few, tuple(samplers)),
    ]
    if quick:
        return tuple(part for part in parts if part.name not in ("guidance", "samplers"))
    large = tuple(range(FIRST_SEED["large"], FIRST_SEED["large"] + 1_000))
    four = tuple(item for item in bias if item.kind == "career")[::5][:4]
    return (*parts, Part("large", _plain(four), large, (setting,), (SD, "fair_diffusion", LIVO)))


def _plain(items: Sequence[EvaluationItem]) -> tuple[EvaluationItem, ...]:
    """The same prompts, of which no picture is kept."""
    return tuple(replace(item, case=False) for item in items)


def choose_parts(parts: Sequence[Part], names: str) -> tuple[Part, ...]:
    """The parts named, by comma, in their own order; all for "".

    Raises:
        InputError: there is no such part.
    """
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    if unknown := wanted - {part.name for part in parts}:
        raise InputError(f"no part {min(unknown)!r}; there are: {', '.join(part.name for part in parts)}")
    return tuple(part for part in parts if not wanted or part.name in wanted)
