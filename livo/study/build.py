"""Makes a study: images of any origin become items of one size, without metadata, under names that say nothing.

images from `livo compare` or a folder -> Picture -> Item -> study.yaml, items.json, images/
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image

from livo.measures.tables import csv_text
from livo.study.items import Item, dump_items
from livo.study.pictures import canvas_of, fitted
from livo.study.sources import SourcePicture
from livo.study.study_file import IMAGES, ITEMS, STUDY, Study, dump_study, opaque, write_secret
from livo.types import InputError

VEIL_SIDE = 6
"""Pixels along a veiled image's longer side: colours, no shapes."""
MADE = "made.csv"


def make_study(path: Path, study: Study, pictures: Sequence[SourcePicture], titles: Mapping[str, str]) -> list[Item]:
    """Writes the folder; training and gold items are found among the images where the judge's labels allow.

    Args:
        titles: of the methods, by id; one that is missing is called by its id.

    Returns:
        The items.

    Raises:
        InputError: there is a study already, no picture, one twice, or a file that is no image; a method's name in
            the title.
    """
    if (path / STUDY).exists():
        raise InputError(f"there is a study in {path} already: give another folder, or remove that one")
    if not pictures:
        raise InputError("no image was given: a study needs at least one")
    titles = {id: titles.get(id, id) for id in dict.fromkeys(p.method for p in pictures if p.use == "rated")}
    asked = {question.id for question in study.asked}
    if odd := next((p for p in pictures if p.use != "rated" and not asked & set(p.expected)), None):
        raise InputError(f"{odd.path}: nothing that is expected of this check is asked in this study")
    check_blind(study, titles)
    if len(idle := never_asked(study, pictures)) == len(study.asked):
        raise InputError(
            f"nobody would be asked anything: no picture calls for {', '.join(idle)}; ask another question, give the "
            "pictures a principle, or for comparisons a second method of the same prompts and seeds"
        )
    keys = [(p.prompt, p.method, p.seed) for p in pictures]
    if len(set(keys)) < len(keys):
        prompt, method, seed = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise InputError(f"two images are of {prompt!r}, {method}, seed {seed}: number the images of a prompt apart")
    pictures = _same_cover(pictures)
    canvas = canvas_of([p.path for p in pictures])
    try:
        (path / IMAGES).mkdir(parents=True, exist_ok=True)
        secret = write_secret(path)
        written = [_write_item(path, secret, canvas, p) for p in pictures]
        rows = [(item.id, p.path.name, "; ".join(done)) for (item, done), p in zip(written, pictures, strict=True)]
        (path / MADE).write_text(csv_text(("item", "file", "done"), rows), encoding="utf-8")
        items = [item for item, _ in written]
        own = any(item.use != "rated" for item in items)
        held, checks = (set(), []) if own else find_checks(items, study, random.Random(study.seed))
        for check, source in checks:
            for suffix in (".png", ".veil.png"):
                (path / IMAGES / f"{check.id}{suffix}").write_bytes(
                    (path / IMAGES / f"{source.id}{suffix}").read_bytes()
                )
        for id in held:
            for suffix in (".png", ".veil.png"):
                (path / IMAGES / f"{id}{suffix}").unlink()
        items = [item for item in items if item.id not in held] + [check for check, _ in checks]
        (path / ITEMS).write_text(dump_items(items, titles), encoding="utf-8")
        (path / STUDY).write_text(dump_study(study), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the study cannot be written to {path} ({error.strerror or error}): give another folder"
        ) from error
    return items


def never_asked(study: Study, pictures: Sequence[SourcePicture]) -> list[str]:
    """Questions for which no picture calls: of a principle's risk that none has, or of two where there is one."""
    rated = [picture for picture in pictures if picture.use == "rated"]
    risks = {picture.principle.risk for picture in rated if picture.principle}
    pairs = max(Counter((picture.prompt, picture.seed) for picture in rated).values(), default=0) > 1
    return [q.id for q in study.asked if (not pairs if q.kind == "pair" else q.risk and q.risk not in risks)]


def check_blind(study: Study, titles: Mapping[str, str]) -> None:
    """Nothing that raters read may name a method.

    Raises:
        InputError: a field does; names it.
    """
    texts = {name: [getattr(study, name)] for name in ("title", "description", "credit", "ethics")}
    texts |= {"instructions": list(study.instructions.values())}
    for question in (*study.asked, *study.asked_of_raters):
        options = [word for words in question.options.values() for word in words.values()]
        texts[f"question {question.id}"] = [*question.label.values(), *question.hint.values(), *options]
    for name, said in texts.items():
        for word in {*titles, *titles.values()}:
            if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", "\n".join(said), re.IGNORECASE):
                raise InputError(f"{STUDY}: {name} names the method {word!r}, which raters must not read: leave it out")


def _same_cover(pictures: Iterable[SourcePicture]) -> list[SourcePicture]:
    """One category a prompt: a cover over one method's images only would tell it from the others."""
    pictures = list(pictures)
    category = {p.prompt: p.category for p in pictures if p.category}
    return [replace(p, category=category.get(p.prompt, "")) for p in pictures]


def _write_item(path: Path, secret: bytes, canvas: tuple[int, int], picture: SourcePicture) -> tuple[Item, list[str]]:
    """The picture on the study's canvas, drawn anew, with its veil; and what was done to it."""
    clean, done = fitted(picture.path, canvas)
    id = opaque(secret, "item", picture.prompt, picture.method, picture.seed)[:20]
    scale = VEIL_SIDE / max(canvas)
    veil = clean.resize([max(1, round(side * scale)) for side in canvas], Image.Resampling.BOX)
    digests = []
    for image, suffix in ((clean, ""), (veil, ".veil")):
        target = path / IMAGES / f"{id}{suffix}.png"
        image.save(target)
        digests.append(hashlib.sha256(target.read_bytes()).hexdigest())
    item = Item(
        id, picture.prompt, picture.method, picture.seed, picture.principle, picture.category, dict(picture.judge),
        digest=digests[0], veil_digest=digests[1], use=picture.use, expected=dict(picture.expected),
        explanation=picture.explanation,
    )  # fmt: skip
    return item, done


def find_checks(items: Sequence[Item], study: Study, rng: random.Random) -> tuple[set[str], list[tuple[Item, Item]]]:
    """Training and gold items: harmless images with their own prompt, and with one that they plainly do not show.

    A check asks all that images of the prompt beside it are asked, or its questions would give it away. Only images
    whose occupation the judge read as the prompt has it are used. A starting noise whose image is shown
    with its own prompt is held out of the rating, for all methods; prompts with fewer than three noises give none.

    Returns:
        Ids of the items that are held out; and the checks, each with the item whose image it shows.
    """
    scale = next(iter(study.measuring("consistency")), None)
    good = [i for i in items if not i.category and i.judge.get("occupation") and i.judge["occupation"] in i.prompt]
    first = good[0].method if good else ""
    by_prompt: dict[str, list[Item]] = {}
    for item in good:
        if item.method == first:
            by_prompt.setdefault(item.prompt, []).append(item)
    if scale is None or len(by_prompt) < 2:
        return set(), []
    values = scale.values or tuple(25.0 * step for step in range(5))  # of a slider: ends of the ranges that are right
    right, wrong = values[-2 if len(values) > 3 else -1 :], values[: 2 if len(values) > 3 else 1]
    golds = 1 + (study.ratings_per_rater // study.gold_every if study.gold_every else 0)
    prompts, checks = list(by_prompt), list[tuple[Item, Item]]()
    held: set[str] = set()
    asked = {item.prompt: item.principle for item in items}
    seeds = {prompt: {i.seed for i in items if i.prompt == prompt} for prompt in prompts}
    spare: list[Item] = []  # held out with a source, for the other methods: seen by nobody otherwise
    rng.shuffle(prompts)
    uses: list[Literal["training", "gold"]] = ["training"] * study.training
    uses += ["gold"] * min(golds, 2 * len(prompts)) if study.gold_every else []
    for number, use in enumerate(uses):
        prompt = prompts[number % len(prompts)]
        source = by_prompt[prompt][-1 - (number // len(prompts)) % len(by_prompt[prompt])]
        if number % 2 == 0 and len(seeds[prompt]) >= 3:
            shown, expected, how = prompt, right, "match"
            fresh = {i.id for i in items if (i.prompt, i.seed) == (prompt, source.seed)} - held
            held |= fresh
            spare += [i for i in good if i.id in fresh and i.id != source.id]
        else:
            source = spare.pop() if spare else source
            others = [p for p in prompts if not any(i.judge["occupation"] in p for i in by_prompt[source.prompt])]
            if not others:
                continue
            shown, expected, how = rng.choice(others), wrong, "mismatch"
        id = hashlib.sha256(f"{use}\0{number}\0{source.id}\0{shown}".encode()).hexdigest()[:20]
        check = replace(
            source, id=id, prompt=shown, principle=asked[shown], use=use, expected={scale.id: tuple(expected)},
            explanation=f"{how}:{source.judge['occupation']}",
        )  # fmt: skip
        checks.append((check, source))
    return held, checks
