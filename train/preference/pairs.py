"""What a value encoder is trained on, wherever it comes from: rows (x, v, y_w, y_l's), and pictures by number.

Three sources: the drawn world (`drawn_pairs`), a folder that `train.preference_data build` made, and a folder in the
official layout (`read_pairs` tells the two apart).
"""

from __future__ import annotations

import functools
import hashlib
import io
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from livo.inputs import PICTURE_FORMATS
from livo.miniature.world import World
from livo.principles import find_principle, load_principles
from livo.types import InputError, Principle
from train.miniature.data import render_batch
from train.preference.drawn_pairs import Pair, PairMaker
from train.preference_data.build import shards_of
from train.preference_data.official import Problem, Report, read_official
from train.preference_data.store import read_rows

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class PreferenceRow:
    """One preferred image with the dispreferred ones of its scene, by their numbers.

    Attributes:
        kind: as Table 1 groups samples: "career", "positive", "negative", or the principle's id.
        neutral: the principle is none of this pair's, and must change nothing.
    """

    prompt: str
    principle: Principle
    winner: int
    losers: tuple[int, ...]
    kind: str = ""
    neutral: bool = False


@dataclass(frozen=True, eq=False)
class PreferenceSet:
    """Rows to train on.

    Attributes:
        rows: an epoch is each of them once.
        num_images: pictures are numbered 0 to num_images - 1.
        pictures: n numbers -> (n, 3, H, W) uint8, all of one size.
        source: which pictures these are.
        digest: which rows of them.
        neutral: the share of `with_neutral`; it decides what rows are read under, not what they show.
    """

    rows: tuple[PreferenceRow, ...]
    num_images: int
    pictures: Callable[[Sequence[int]], Tensor]
    source: str
    digest: str
    neutral: float = 0.0

    def only(self, principles: Collection[str] | None = None, fraction: float = 1.0) -> PreferenceSet:
        """The rows of some principles, by id, and a fixed random share of those; pictures keep their numbers.

        A smaller share is a part of every larger one, so that curves over the share are paired.

        Raises:
            InputError: the share is outside (0, 1], or nothing is left.
        """
        if not 0 < fraction <= 1:
            raise InputError(f"a fraction of {fraction} of the data: give more than 0 and at most 1")
        rows = [row for row in self.rows if principles is None or row.principle.id in principles]
        order = sorted(range(len(rows)), key=lambda i: hashlib.sha256(f"share {i}".encode()).digest())
        kept = [rows[i] for i in sorted(order[: round(fraction * len(rows))])]
        if not kept:
            asked = "" if principles is None else f" of {', '.join(principles)}"
            raise InputError(f"no pair{asked} is left to train on: ask for more of the {len(self.rows):,} rows")
        if len(kept) == len(self.rows):
            return self
        chosen = hashlib.sha256(f"{self.digest} {kept}".encode()).hexdigest()[:16]
        return replace(self, rows=tuple(kept), digest=chosen)


NEUTRAL = ("a photo", "a portrait", "a drawing", "with skin", "a person", "no preference", "as it is")
"""Texts that say nothing of a value. Evaluation's neutral text is none of them."""


def with_neutral(data: PreferenceSet, share: float) -> PreferenceSet:
    """The same pairs, a fixed random share of which is read under a text that says nothing of what they are about.

    Half of them under one of `NEUTRAL`, half under a principle of the other risk: a value encoder that moves pictures
    whatever it reads is told so.

    Raises:
        InputError: the share is outside [0, 1).
    """
    if not 0 <= share < 1:
        raise InputError(f"a share of {share} neutral pairs: give 0 or more, and less than 1")

    def turned(i: int, row: PreferenceRow) -> PreferenceRow:
        rng = random.Random(f"neutral {i}")
        if rng.random() >= share:
            return row
        others = [p.text for p in load_principles() if p.risk != row.principle.risk]
        text = rng.choice(NEUTRAL if rng.random() < 0.5 else others)
        return replace(row, principle=replace(row.principle, text=text), neutral=True)

    rows = tuple(turned(i, row) for i, row in enumerate(data.rows))
    return replace(data, rows=rows, neutral=share) if share else data


def drawn_pairs(maker: PairMaker, count: int, size: Size, seed: int = 0) -> PreferenceSet:
    """`count` pairs of the drawn world, rendered when they are asked for; the same for the same seed."""
    rng = random.Random(f"pairs {seed}")
    pairs = [maker.pair(rng) for _ in range(count)]
    rows = tuple(
        PreferenceRow(p.prompt, p.principle, 2 * i, (2 * i + 1,), kind_of(maker.world, p)) for i, p in enumerate(pairs)
    )

    def pictures(numbers: Sequence[int]) -> Tensor:
        scenes = [pairs[n // 2].rejected if n % 2 else pairs[n // 2].chosen for n in numbers]
        drawn = render_batch(maker.world, scenes)
        if tuple(drawn.shape[2:]) == size:
            return drawn
        return torch.stack([fit_picture(Image.fromarray(d.permute(1, 2, 0).numpy()), size) for d in drawn])

    source = f"drawn {maker.digest()} {count} {seed}"
    return PreferenceSet(rows, 2 * count, pictures, source, source)


def kind_of(world: World, pair: Pair) -> str:
    """Of a drawn pair, as Table 1 has it."""
    if pair.principle.risk == "toxicity" or pair.chosen.adjective is None:
        return pair.principle.id if pair.principle.risk == "toxicity" else "career"
    return str(world.adjectives[pair.chosen.adjective]["kind"])


def read_pairs(folder: Path, size: Size, report: Report) -> PreferenceSet:
    """Pairs of a folder: a finished build of `train.preference_data`, or the official layout.

    Args:
        size: pictures are scaled to cover it and cut at the centre, as the official trainer does.
        report: gets every row and scene that cannot be used, and the counts.

    Raises:
        InputError: the folder holds neither, or nothing in it can be trained on.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give one that `python -m train.preference_data build` made, or "
                         "one in the official layout <type>/<scene>/metadata.jsonl")  # fmt: skip
    found = _build_pairs(folder, size, report) if (folder / "data").is_dir() else _official_pairs(folder, size, report)
    if not found.rows:
        raise InputError(f"{folder} holds no pair: {len(report.problems):,} problems, `python -m train.preference_data "
                         f"check {folder}` names each")  # fmt: skip
    return found


def fit_picture(image: Image.Image, size: Size) -> Tensor:
    """(3, H, W) uint8: scaled (bilinear) to cover the size, and cut at the centre."""
    fitted = ImageOps.fit(image.convert("RGB"), (size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def _official_pairs(folder: Path, size: Size, report: Report) -> PreferenceSet:
    paths: list[Path] = []
    rows: list[PreferenceRow] = []
    content = hashlib.sha256(repr(size).encode())
    for scene in read_official(folder, report):
        first = len(paths)
        images = (*scene.winners, *scene.losers)
        paths += [image.path for image in images]
        losers = tuple(range(first + len(scene.winners), len(paths)))
        rows += [PreferenceRow(w.prompt, scene.principle, first + i, losers) for i, w in enumerate(scene.winners)]
        for image in images:
            content.update(f"{scene.name} {scene.principle.id} {image.prompt} {image.path.name} ".encode())
            content.update(hashlib.sha256(image.path.read_bytes()).digest())

    def pictures(numbers: Sequence[int]) -> Tensor:
        found = []
        for n in numbers:
            with Image.open(paths[n], formats=PICTURE_FORMATS) as image:
                found.append(fit_picture(image, size))
        return torch.stack(found)

    source = f"official {content.hexdigest()[:16]}"
    return PreferenceSet(tuple(rows), len(paths), pictures, source, source)


def _build_pairs(folder: Path, size: Size, report: Report) -> PreferenceSet:
    shards = shards_of(folder)
    rows: list[PreferenceRow] = []
    places: list[tuple[int, int]] = []  # shard and row within it, by number
    for s, shard in enumerate(shards):
        first = len(places)
        sides: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        for r, row in enumerate(read_rows(shard, ["prompt", "labels"])):
            report.rows += 1
            places.append((s, r))
            for label in row["labels"]:
                if label["label"] is not None:
                    both = sides.setdefault((row["prompt"], label["principle"]), ([], []))
                    both[0 if label["label"] == 1 else 1].append(first + r)
        for (prompt, principle_id), (winners, losers) in sides.items():
            if not winners or not losers:
                fault = f"a scene with no {'losers' if winners else 'winners'}"
                report.problems.append(Problem(shard, 0, fault, f"{prompt!r} under {principle_id}"))
                continue
            report.winners += len(winners)
            report.losers += len(losers)
            rows += [PreferenceRow(prompt, find_principle(principle_id), w, tuple(losers)) for w in winners]

    @functools.lru_cache(maxsize=2)
    def bytes_of(shard: int) -> list[bytes]:
        return [row["image"]["bytes"] for row in read_rows(shards[shard], ["image"])]

    def pictures(numbers: Sequence[int]) -> Tensor:
        found = []
        for s, r in (places[n] for n in numbers):
            try:
                image = Image.open(io.BytesIO(bytes_of(s)[r]), formats=PICTURE_FORMATS)
                found.append(fit_picture(image, size))
            except Exception as error:  # a decoder of a broken file may raise anything
                message = (
                    f"{shards[s]}, row {r + 1}: its image cannot be read ({error}); delete the file, and build again"
                )
                raise InputError(message) from error
        return torch.stack(found)

    source = f"build {hashlib.sha256((folder / 'manifest.json').read_bytes()).hexdigest()[:16]} {size}"
    return PreferenceSet(tuple(rows), len(places), pictures, source, source)
