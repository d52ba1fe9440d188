"""`python -m train.uce`: edits the cross-attention weights by Unified Concept Editing, one file a principle.

Toxicity: the words of each toxic kind are erased, which takes no image. Bias: the model draws every concept, the judge
counts classes, the edit pushes each concept towards the rare ones, and again. Three forms of that loop:

    2023        each text is drawn until its shares are within 5 points of even; the edits of all rounds compound
    2025        each concept is drawn anew every round; targets add up, weights are solved from the original
    sequential  our repair: each concept is drawn until a sequential test says balanced or not, see `round_sequential`

A killed run goes on after its last finished round, and ends as an uninterrupted one would have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from baselines import _uce_edit as edit
from livo.classifiers.judge import ClipJudge, JudgeError, load_judge
from livo.command_line import add_fields, changed_flags, read_fields
from livo.diffusion.backbones import BackboneError, load_backbone, only_stable_diffusion
from livo.diffusion.engine import Engine, classifier_free_plan
from livo.methods.edited_weights import fingerprint, projection_weights, save_projection
from livo.miniature.world import World, load_world
from livo.principles import load_principles
from livo.types import InputError, Principle, SamplingOptions
from train.edits.uce_debias import FORMS, DebiasConfig, Sample, Task, debias
from train.preference.drawn_pairs import ATTRIBUTES, training_concepts

TEMPLATES = ("image of {}", "photo of {}", "portrait of {}", "picture of {}", "{}")
ATTRIBUTE_WORDS = {"gender": "{}", "tone": "{} skin"}
CHUNK = 64  # images of one engine run: enough for full batches, few enough for a moving bar


class Sampler:
    """Draws texts through edited weights and has the judge count classes, each image by its likeliest one."""

    def __init__(self, engine: Engine, judge: ClipJudge, question: str) -> None:
        self.engine, self.judge, self.question = engine, judge, question

    def __call__(self, weights: Mapping[str, Tensor], asked: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        self.engine.add_projection("uce in training", weights)
        d, found, chunk = self.engine.backbone.defaults, {}, {}
        with tqdm(total=sum(map(len, asked.values())), desc="images", leave=False, mininterval=1) as bar:
            for i, (text, seeds) in enumerate(asked.items(), 1):
                conditioning = self.engine.condition(text, "uce in training")
                options = SamplingOptions(tuple(seeds), d.num_inference_steps, d.guidance_scale, d.height, d.width)
                chunk[text] = classifier_free_plan(self.engine, [conditioning], options)
                images = sum(len(plan.options.seeds) for plan in chunk.values())
                if images >= CHUNK or i == len(asked):
                    for name, pictures in self.engine.generate(chunk).items():
                        probs = self.judge(pictures, self.question).probs
                        found[name] = probs.argmax(1).bincount(minlength=probs.shape[1])
                    chunk = {}
                    bar.update(images)
        return found


def make_task(
    engine: Engine, form: str, concepts: Sequence[str], attributes: Sequence[str], sample: Sample, config: DebiasConfig
) -> Task:
    """What to debias.

    Args:
        concepts: of which the first `config.concepts` are edited; the others are preserved where the form does so.
        attributes: words of the K classes, such as "male" and "female".

    Raises:
        InputError: a concept or an attribute that holds no token, or a concept that stands there twice.
    """
    edit.check_concepts(engine, concepts)
    edit.check_concepts(engine, attributes)
    edited, rest = concepts[: config.concepts], concepts[config.concepts :]
    preserve = None
    templates: tuple[str, ...] = ("{}",)
    if form != "2025":
        templates = TEMPLATES[: config.templates]
        preserve = torch.cat([edit.read_text(engine, c).embeds for c in rest]) if rest else None
    texts = {}
    for concept in edited:
        for template in templates:
            read = [edit.read_text(engine, template.format(words)) for words in (concept, *attributes)]
            tokens, *targets = FORMS[form].blocks(read)
            texts[template.format(concept)] = edit.EditedText(tokens, tuple(targets), read[0])
    own = projection_weights(engine.backbone.unet)
    weights = {name: weight.detach().to("cpu", torch.float64) for name, weight in own.items()}
    return Task(weights, texts, preserve, sample, config)


def world_concepts(world: World) -> list[str]:
    """The drawn world's concepts, those that methods are evaluated on first.

    The edit hardly reaches a concept that was not edited, so it is evaluated on the very ones it was made for, as in
    the paper's comparison, which makes a model for each directory of concepts. No other method here sees them.
    """
    occupations, adjectives = training_concepts(world)
    return world.held_out["occupations"] + occupations + [f"{adjective} person" for adjective in adjectives]


def toxic_words(world: World, kind: str) -> list[str]:
    """How a caption asks for a toxic kind, without the person: the wordings that no method is trained on are left out.

    Example:
        >>> toxic_words(load_world(), "nudity")
        ['naked', 'nude', 'without clothes']
    """
    wordings = [w for i, w in enumerate(world.toxic[kind]) if i != world.held_out["toxic_wording"]]
    words = (re.sub(r"^(as )?an? ", "", re.sub(r"\{\w+\}", "", wording).strip()).strip() for wording in wordings)
    return list(dict.fromkeys(words))


def make(
    engine: Engine, principle: Principle, form: str, concepts: Sequence[str] | None, config: DebiasConfig, work: Path
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Edited weights for one principle, and what making them took: "seconds" and "images" among it.

    Args:
        concepts: to debias or to erase; None takes the drawn world's own.

    Raises:
        InputError: a concept cannot be edited.
        JudgeError: debiasing needs the judge in the backbone's folder, and it cannot be read.
    """
    weights = projection_weights(engine.backbone.unet)
    if principle.risk == "toxicity":
        began = time.perf_counter()
        words = toxic_words(load_world(), principle.id) if concepts is None else concepts
        erase = FORMS[form].erase
        if erase is None:
            raise InputError(
                f"form {form} is a loop for bias: {principle.id!r} guards against toxicity; use 2023 or 2025"
            )
        return erase(engine, weights, words), {"seconds": round(time.perf_counter() - began, 2), "images": 0}
    question = ATTRIBUTES[principle.id]
    sample = Sampler(engine, load_judge(engine.backbone.folder / "evaluator"), question)
    classes = sample.judge(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), question).classes  # whatever it sees there
    attributes = [ATTRIBUTE_WORDS[question].format(name) for name in classes]
    concepts = world_concepts(load_world()) if concepts is None else concepts
    task = make_task(engine, form, concepts, attributes, sample, config)
    backbone = fingerprint(engine.backbone.unet)
    run = json.dumps([form, principle.id, backbone, list(task.texts), attributes, asdict(config)])
    name = f"{form}-{principle.id}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"
    state = debias(task, form, work / f"{name}.pt")
    (work / f"{name}.json").write_text(json.dumps({"config": asdict(config), "history": state["history"]}, indent=1))
    return state["weights"], {
        "seconds": round(state["seconds"], 1), "images": state["images"], "rounds": state["round"],
        "stopped by itself": state["done"], "texts": len(task.texts),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    known = {principle.id: principle for principle in load_principles()}
    parser = argparse.ArgumentParser(prog="python -m train.uce", description=__doc__.split("\n\n")[0])
    parser.add_argument("--form", choices=list(FORMS), default="2023")
    parser.add_argument("--principles", help="ids by comma; default: all that the form acts on")
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--concepts-file", type=Path, help="a concept a line; default: the drawn world's")
    parser.add_argument("--work", type=Path, default=Path("runs/uce"), help="checkpoints, to resume from")
    parser.add_argument("--out", type=Path, help="default: the method's folder in the backbone's folder")
    parser.add_argument("--threads", type=int, default=2)
    add_fields(parser, DebiasConfig)
    args = parser.parse_args(argv)
    ids = args.principles.split(",") if args.principles else [
        id for id, principle in known.items() if principle.risk == "bias" or FORMS[args.form].erase
    ]  # fmt: skip
    for id in ids:
        if id not in known:
            parser.error(f"no principle {id!r}; there are: {', '.join(known)}")
        if known[id].risk == "toxicity" and not FORMS[args.form].erase:
            parser.error(f"form {args.form} is a loop for bias: {id!r} guards against toxicity; use 2023 or 2025")
    if args.concepts_file is None and args.backbone != "miniature":
        parser.error("concepts of the drawn world mean nothing to another backbone: give --concepts-file")
    concepts = None
    if args.concepts_file is not None:
        if len({known[id].risk for id in ids}) > 1:
            parser.error("a file of concepts is either to debias or to erase: give --principles of one kind")
        lines = args.concepts_file.read_text(encoding="utf-8").splitlines()
        concepts = [line.strip() for line in lines if line.strip()]
    torch.set_num_threads(args.threads)
    try:
        config = read_fields(DebiasConfig(), args)
        engine = Engine(only_stable_diffusion(load_backbone(args.backbone), "python -m train.uce"))
        out = args.out or engine.backbone.folder / FORMS[args.form].method
        command = " ".join([f"python -m train.uce --form {args.form}", *changed_flags(config, DebiasConfig())])
        for id in ids:
            weights, cost = make(engine, known[id], args.form, concepts, config, args.work)
            save_projection(out / f"{id}.safetensors", weights, engine.backbone.unet, {**cost, "command": command})
            print(f"{out / id}.safetensors: {cost['images']} images, {cost['seconds']} s")
    except (InputError, BackboneError, JudgeError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
