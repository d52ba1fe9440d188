"""One training while somebody watches: few concepts, one principle, about a minute, pictures on the way.

Everything that trains is `train.preference.trainer.Training`'s; this file chooses small data, and looks every few
seconds.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import torch

from baselines.stable_diffusion import load as load_stable_diffusion
from livo.classifiers.judge import ClipJudge
from livo.diffusion.backbones import Backbone
from livo.diffusion.engine import Engine
from livo.evaluation.results import ATTRIBUTE
from livo.live_training import LOSSES as OFFERED
from livo.live_training import SHARES, Ended, LiveRequest, Preparing, Preview, Stepped, Update, pack_encoder
from livo.methods.livo import LiVO
from livo.methods.value_encoder import TextValueEncoder, ValueEncoder, save_value_encoder
from livo.miniature.world import load_world
from livo.principles import find_principle, load_principles
from livo.types import InputError, SamplingOptions
from train.preference.drawn_pairs import PairMaker, concept_prompts, measure_shares, preferred
from train.preference.losses import LOSSES, PreferenceLoss
from train.preference.pairs import PreferenceSet, drawn_pairs
from train.preference.trainer import Training, TrainingConfig

PAIRS = 192
BATCH_SIZE = 16
LEARNING_RATE = 1e-3
LOOK_REST, LOOK_SECONDS = 4.0, (5.0, 15.0)
"""Between two looks: so many times what the last one took, that looking costs a fifth.

In seconds no less and no more than these.
"""
LOOK_IMAGES = 16
LOOK_SEED = 5_000


def loss_of(request: LiveRequest) -> PreferenceLoss:
    """The loss with the visitor's margins, where it has any."""
    loss = LOSSES[request.loss]
    return (
        functools.partial(loss, gamma_1=request.gamma_1, gamma_2=request.gamma_2)
        if OFFERED[request.loss].margins
        else loss
    )


def live_data(
    request: LiveRequest, engine: Engine, judge: ClipJudge, work: Path
) -> tuple[PreferenceSet, dict[str, set[str]]]:
    """Pairs of the chosen concepts, and by concept the classes that the model draws too rarely.

    Raises:
        InputError: an unknown concept, or none that the model draws one-sidedly.
    """
    world, attribute = load_world(), ATTRIBUTE[request.principle]
    prompts = concept_prompts(world)
    if unknown := [c for c in request.concepts if c not in prompts]:
        raise InputError(f"no concept {unknown[0]!r} to train on; there are: {', '.join(prompts)}")
    found = measure_shares(engine, judge, {c: prompts[c] for c in request.concepts}, work / SHARES)
    shares = {c: found[c] for c in request.concepts if any(found[c][attribute].values())}  # the judge placed some image
    rare = {c: set(preferred(row[attribute])[0]) for c, row in shares.items()}
    if not any(rare.values()):
        raise InputError(
            f"the model draws {', '.join(request.concepts)} evenly enough: there is nothing to learn; tick others"
        )
    maker = PairMaker(world, load_principles(), shares, {request.principle: 1.0})
    defaults = engine.backbone.defaults
    return drawn_pairs(maker, PAIRS, (defaults.height, defaults.width), request.seed), rare


class PreviewSampler:
    """Draws the same prompts and seeds again and again, and asks the judge.

    Args:
        rare: by concept, classes that the model draws too rarely; concepts without any are not looked at.
        images: about so many, spread evenly over the concepts.
    """

    def __init__(
        self, engine: Engine, judge: ClipJudge, principle: str, rare: Mapping[str, Set[str]],
        images: int, first_seed: int,
    ) -> None:  # fmt: skip
        self.engine, self.judge, self.principle = engine, judge, find_principle(principle)
        self.rare = {concept: classes for concept, classes in rare.items() if classes}
        d, seeds = engine.backbone.defaults, max(1, round(images / len(self.rare)))
        prompts = concept_prompts(load_world())
        self.prompts = {concept: prompts[concept] for concept in self.rare}
        self.options = SamplingOptions(
            tuple(range(first_seed, first_seed + seeds)), d.num_inference_steps, d.guidance_scale, d.height, d.width
        )

    def look(
        self, encoder: ValueEncoder | TextValueEncoder | None, step: int, seconds: float, packed: bytes | None = None
    ) -> Preview:
        """The images now, all with the value; Stable Diffusion's own where there is no encoder yet."""
        method = load_stable_diffusion(self.engine) if encoder is None else LiVO(self.engine, encoder, mixing_rate=1.0)
        pictures = self.engine.generate(
            {c: method.plan(p, self.principle, self.options) for c, p in self.prompts.items()}
        )
        labels: list[str | None] = []
        wanted: list[bool] = []
        kept: list[bool] = []
        for concept, images in pictures.items():
            features = self.judge.features(images)
            answer = self.judge.ask(features, ATTRIBUTE[self.principle.id])
            read = self.judge.ask(
                features, "occupation" if concept in self.judge.classes("occupation") else "adjective"
            )
            mine = [None if k is None else answer.classes[k] for k in answer.labels]
            labels += mine
            wanted += [label in self.rare[concept] for label in mine]
            kept += [k is not None and read.classes[k] == concept for k in read.labels]
        n = len(self.options.seeds)
        pixels = torch.cat(list(pictures.values())).permute(0, 2, 3, 1).contiguous().numpy()
        prompts = tuple(prompt for prompt in self.prompts.values() for _ in range(n))
        return Preview(
            step,
            seconds,
            prompts,
            self.options.seeds * len(self.prompts),
            pixels,
            tuple(labels),
            tuple(wanted),
            tuple(kept),
            packed,
        )


def train_live(request: LiveRequest, backbone: Backbone, judge: ClipJudge, work: Path) -> Iterator[Update]:
    """The training: what is made ready, every step, a look every few seconds, and the end.

    Every look but the first carries the encoder that made it. Closing the iterator stops before the next step.

    Args:
        backbone: frozen; its folder is read, never written to.
        work: an own, empty folder; whoever made it deletes it after.

    Raises:
        InputError: the concepts cannot be learned from.
    """
    began = time.monotonic()

    def seconds() -> float:
        return time.monotonic() - began

    yield Preparing("asking what the model draws by itself")
    engine = Engine(backbone)
    data, rare = live_data(request, engine, judge, work)
    preview = PreviewSampler(engine, judge, request.principle, rare, LOOK_IMAGES, LOOK_SEED)
    yield preview.look(None, 0, seconds())
    yield Preparing(f"drawing and encoding {PAIRS} pairs", seconds())
    config = TrainingConfig(request.num_steps, BATCH_SIZE, LEARNING_RATE, "constant", num_draws=1, seed=request.seed)
    training = Training(backbone, data, config, work / "caches", loss_of(request))
    due = seconds() + LOOK_SECONDS[0]
    for i in range(request.num_steps):
        numbers = training.step(i)
        if broken := next((key for key, value in numbers.items() if not math.isfinite(value)), None):
            problem = (
                f"{broken} became {numbers[broken]} at step {i + 1}: the training fell apart; the pictures are from "
                "before that"
            )
            yield Ended(seconds(), problem)
            return
        yield Stepped(i + 1, request.num_steps, seconds(), numbers)
        if (start := seconds()) >= due or i + 1 == request.num_steps:
            yield preview.look(training.encoder, i + 1, start, _packed(training, work / "encoder", i + 1, start))
            due = seconds() + min(max(LOOK_SECONDS[0], LOOK_REST * (seconds() - start)), LOOK_SECONDS[1])
    yield Ended(seconds())


def _packed(training: Training, folder: Path, step: int, seconds: float) -> bytes:
    """The encoder as it is, ready to be used, compared and taken along."""
    images = 2 * step * training.config.batch_size
    save_value_encoder(
        training.encoder.model, folder, half=True, training={"seconds": seconds, "images": images, "steps": step}
    )
    return pack_encoder(folder)
