"""Makes the pack: pack.yaml -> pack.json and sheets of pictures, from the stored results and the model that made them.

Labels come from assets/results. Pictures are generated again from the same prompts and seeds, and every one must be
read by the judge as its label says; a picture that is not clean stops the build. Pictures are made only where wanted
ones, the model or its labels changed; figures are computed each time.

    sets:    name -> prompt, arm, title, principle, question, classes, counts, abstained, labels, seeds, planted, sheet
    albums:  name -> sheet, classes, pictures: [{prompt, title, seed, label, scores}]
    charts:  name -> x_label, y_label, note, series: [{name, points: [{arm, label, x, y, low, high (null: none)}]}]
    mixes:   prompt -> planted, off, on: shares perceived female without the value and with it
    trap:    methods: [{id, title}], rows: [`Tried` of traps.py], attacks: method -> [{attack, rate, prompts}]
    guidance: prompt -> planted, n, counts: perceived female by scale
    prompts: [{prompt, principle, text, words}];  judge: question -> classes, matrix, n, accuracy;  made_of: digest
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from livo.inputs import StrictModel, load_yaml, read_model
from livo.runs import write_whole
from livo.types import InputError
from livo.workshop.lesson import FOLDER
from livo.workshop.lesson_figures import (
    ARMS,
    ORIGINAL,
    Load,
    Names,
    WantedGuidance,
    WantedTrap,
    guidance,
    mix,
    planted,
    trap,
)
from livo.workshop.pack import INDEX, WANTED

SHEET_COLUMNS = 10
QUALITY = 88
"""Of the sheets: a third of the bytes of one without loss, for bad networks."""


class WantedSet(StrictModel):
    """Images of one prompt in the results: labels always, pictures where asked for."""

    prompt: str
    arm: str
    principle: str
    pictures: bool = False


class WantedAlbum(StrictModel):
    """Pictures to label, from sets: so many of which the judge was least sure, and most.

    Attributes:
        prompts: further ones, which the results do not hold; LiVO draws `each` pictures of them.
    """

    sets: Names
    prompts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    each: int = 20
    doubtful: Annotated[int, Field(ge=0)]
    clear: Annotated[int, Field(ge=0)]


class Wanted(StrictModel):
    """`pack.yaml`."""

    sets: dict[str, WantedSet]
    albums: dict[str, WantedAlbum]
    charts: Annotated[tuple[Literal["bias", "toxicity"], ...], Field(strict=False)]
    prompts: Names
    mixes: Names
    trap: WantedTrap
    guidance: WantedGuidance


def load_wanted(folder: Path = FOLDER) -> Wanted:
    """What a pack is to hold.

    Raises:
        InputError: the file is missing or wrong; names the field.
    """
    path = folder / WANTED
    wanted = read_model(Wanted, load_yaml(path), str(path))
    for name, album in wanted.albums.items():
        if unknown := [one for one in album.sets if one not in wanted.sets]:
            raise InputError(f"{path}, field 'albums.{name}.sets': there is no set {unknown[0]!r}")
    return wanted


def build_pack(load: Load, folder: Path = FOLDER, results: Path | None = None) -> str:
    """Writes the pack into its folder; says what was made.

    Raises:
        InputError: the results lack something, or the model no longer makes the pictures .
    """
    wanted = load_wanted(folder)
    payload = figures(wanted, results)
    payload["made_of"] = _digest(wanted, payload)
    try:
        before = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if before.get("made_of") == payload["made_of"] and _has_all(before, folder):
        for name, one in before["sets"].items():
            payload["sets"][name]["sheet"] = one["sheet"]
        payload["albums"] = before["albums"]
        made = "the pictures are those of before"
    else:
        made = f"{_pictures(wanted, payload, load, folder)} sheets of pictures"
    payload["guidance"] = guidance(wanted.guidance, payload["weights"], before, load)
    _write(folder, payload)
    return f"{len(payload['sets'])} sets, {len(payload['charts'])} charts and {made} are in {folder}"


def _write(folder: Path, payload: Mapping[str, Any]) -> None:
    text = json.dumps(payload, ensure_ascii=False, indent=1, allow_nan=False)
    text = re.sub(r"\[[\d,\s-]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)  # labels in a line
    write_whole(folder / INDEX, (text + "\n").encode())


def figures(wanted: Wanted, results: Path | None = None) -> dict[str, Any]:
    """All of the pack but its pictures; raises as `build_pack`."""
    from livo.evaluation.attacks import read_attacks
    from livo.evaluation.report import COMMITTED
    from livo.evaluation.results import read_all
    from livo.evaluation.tables import find_encoders, find_main
    from livo.retriever import retrieve

    files = read_all([results or COMMITTED])
    main = find_main(files)
    encoders = find_encoders(files)
    return {
        "made_of": "",
        "weights": dict(main.header.weights) | {arm: main.header.methods[arm].weights for arm in ARMS},
        "judge": {question: asdict(main.header.confusion[question]) for question in ("gender", "tone")},
        "sets": {name: _set(name, one, main) for name, one in wanted.sets.items()},
        "albums": {},
        "charts": {name: _chart(name, main, encoders and encoders.only(main)) for name in wanted.charts},
        "prompts": [_retrieved(prompt, retrieve(prompt)) for prompt in wanted.prompts],
        "mixes": {prompt: mix(prompt, main) for prompt in wanted.mixes},
        "trap": trap(wanted.trap, main, read_attacks(results or COMMITTED)),
    }


def _set(name: str, one: WantedSet, main: Any) -> dict[str, Any]:
    from livo.evaluation.results import ATTRIBUTE

    places = [
        (part, i) for part in ("bias", "named") for i, item in enumerate(main.items(part)) if item.prompt == one.prompt
    ]
    if not places:
        raise InputError(f"{WANTED}: sets.{name}.prompt: the results hold no {one.prompt!r}")
    part, place = places[0]
    question = ATTRIBUTE[one.principle]
    images = main.images(part, place, one.arm, one.principle)
    wants = dict(main.items(part)[place].wants)
    return {
        "prompt": one.prompt,
        "arm": one.arm,
        "title": "the original model (drawn world)" if one.arm == ORIGINAL else main.title(one.arm),
        "principle": one.principle,
        "question": question,
        "classes": main.classes(question),
        "counts": main.counts(images, question),
        "abstained": int((images[question] == -1).sum()),
        "labels": images[question].tolist(),
        "seeds": images["seed"].tolist(),
        "planted": planted(wants, question),
        "sheet": None,
    }


def _chart(name: str, main: Any, encoders: Any) -> dict[str, Any]:
    from livo.evaluation.figures import figure_3b, figure_3c

    chart = {"bias": figure_3b, "toxicity": figure_3c}[name](main, encoders)

    def point(p: Any) -> dict[str, Any]:
        low, high = (round(float(end), 2) if math.isfinite(end) else None for end in (p.y.low, p.y.high))
        label = "the original model" if p.method == ORIGINAL else p.label
        return {"arm": p.method, "label": label, "x": round(p.x, 2), "y": round(p.y.value, 2), "low": low, "high": high}

    series = [{"name": one.name, "points": [point(p) for p in one.points]} for one in chart.series]
    return {
        "x_label": chart.x_label,
        "y_label": chart.y_label,
        "note": chart.note.split(" A grid of ")[0],
        "series": series,
    }


def _retrieved(prompt: str, found: Any) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "principle": found.principle.id if found.principle else None,
        "text": found.principle.text if found.principle else "no principle",
        "words": [{"text": e.text, "reason": e.reason} for e in found.evidence],
    }


def _digest(wanted: Wanted, payload: Mapping[str, Any]) -> str:
    """Of all that pictures depend on."""
    labels = {name: one["labels"] for name, one in payload["sets"].items()}
    parts = [
        *(wanted.model_dump(mode="json", exclude_unset=True)[key] for key in ("sets", "albums")),
        payload["weights"],
        labels,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _has_all(before: Mapping[str, Any], folder: Path) -> bool:
    holders = [*before["sets"].values(), *before["albums"].values()]
    return all((folder / one["sheet"]).is_file() for one in holders if one["sheet"])


# --- pictures --------------------------------------------------------------------------------------------------------


def _pictures(wanted: Wanted, payload: dict[str, Any], load: Load, folder: Path) -> int:
    """Generates, checks and stores the pictures; the number of sheets."""
    pooled = {name for album in wanted.albums.values() for name in album.sets}
    drawn = [name for name, one in wanted.sets.items() if one.pictures or name in pooled]
    made = _generate({name: payload["sets"][name] for name in drawn}, load)
    sheets = 0
    for name, one in wanted.sets.items():
        if one.pictures:
            payload["sets"][name]["sheet"] = _store(folder, name, made[name][0])
            sheets += 1
    for name, album in wanted.albums.items():
        pool = {one: payload["sets"][one] for one in album.sets} | _further(album, made, load)
        picked = _pick(album, pool, made)
        random.Random(0).shuffle(picked)  # doubtful and clear ones in no order
        sheet = _store(folder, name, np.stack([made[s][0][i] for s, i in picked]))
        pictures = [
            {
                **{key: pool[s][key] for key in ("prompt", "title")},
                "seed": pool[s]["seeds"][i],
                "label": pool[s]["labels"][i],
                "scores": [round(float(p), 3) for p in made[s][1][i]],
            }
            for s, i in picked
        ]
        classes = payload["sets"][album.sets[0]]["classes"]
        payload["albums"][name] = {"sheet": sheet, "classes": classes, "pictures": pictures}
        sheets += 1
    return sheets


def _further(album: WantedAlbum, made: dict[str, Any], load: Load) -> dict[str, dict[str, Any]]:
    """Sets of an album's own prompts, drawn with LiVO into `made`, labelled as the classifier reads them."""
    if not album.prompts:
        return {}
    from livo.classifiers.judge import load_judge
    from livo.compare.comparison import Comparison, compare, make_request
    from livo.diffusion.backbones import load_backbone
    from livo.diffusion.engine import Engine
    from livo.types import SamplingOptions

    backbone = load_backbone("miniature")
    engine, judge, d = Engine(backbone), load_judge(backbone.folder / "evaluator"), backbone.defaults
    entries, seeds = load(["livo"], engine), tuple(range(album.each))
    options = SamplingOptions(seeds, d.num_inference_steps, d.guidance_scale, d.height, d.width)
    sets = {}
    for prompt in album.prompts:
        request = make_request(prompt, ["livo"], options, "gender_equality")
        *_, result = compare(request, engine=engine, methods=entries)
        assert isinstance(result, Comparison), "the last of what compare yields"
        images = result.methods["livo"].images
        assert images is not None, "LiVO applies to every prompt"
        if any(judge(images, "toxicity").labels):
            raise InputError(f"{WANTED}: albums: a picture of {prompt!r} is not read as clean")
        verdict = judge(images, "gender")
        labels = [-1 if label is None else label for label in verdict.labels]
        sets[prompt] = {"prompt": prompt, "title": entries["livo"].title, "seeds": list(seeds), "labels": labels}
        made[prompt] = images.permute(0, 2, 3, 1).numpy(), verdict.probs.numpy()
    return sets


def _pick(album: WantedAlbum, sets: Mapping[str, Any], made: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The least sure pictures and the surest, of each class as many as can be."""
    places = [(name, i) for name, one in sets.items() for i in range(len(one["labels"]))]
    sure = sorted(places, key=lambda place: float(made[place[0]][1][place[1]].max()))
    doubtful, rest = sure[: album.doubtful], sure[album.doubtful :]
    clear: list[tuple[str, int]] = []
    for turn in range(album.clear):
        label = turn % len(sets[album.sets[0]]["classes"])
        clear.append(next(p for p in reversed(rest) if sets[p[0]]["labels"][p[1]] == label and p not in clear))
    return doubtful + clear


def _generate(sets: Mapping[str, Mapping[str, Any]], load: Load) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(N, H, W, 3) pictures and (N, K) probabilities of each set, read by the judge as its labels say."""
    from livo.classifiers.judge import load_judge
    from livo.compare.comparison import Comparison, compare, make_request
    from livo.diffusion.backbones import load_backbone
    from livo.diffusion.engine import Engine
    from livo.types import SamplingOptions

    backbone = load_backbone("miniature")
    engine, judge, d = Engine(backbone), load_judge(backbone.folder / "evaluator"), backbone.defaults
    entries = load(ARMS, engine)
    out: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for prompt, principle in dict.fromkeys((one["prompt"], one["principle"]) for one in sets.values()):
        names = [name for name, one in sets.items() if (one["prompt"], one["principle"]) == (prompt, principle)]
        options = SamplingOptions(
            tuple(sets[names[0]]["seeds"]), d.num_inference_steps, d.guidance_scale, d.height, d.width
        )
        request = make_request(prompt, list(entries), options, principle)
        *_, result = compare(request, engine=engine, methods=entries)
        assert isinstance(result, Comparison), "the last of what compare yields"
        for name in names:
            images = result.methods[sets[name]["arm"]].images
            assert images is not None, "both methods apply to every prompt of the pack"
            if any(judge(images, "toxicity").labels):  # class 0 is "clean"
                raise InputError(
                    f"{WANTED}: sets.{name}: a picture is not read as clean; it cannot be shown to a class"
                )
            verdict = judge(images, sets[name]["question"])
            if [-1 if label is None else label for label in verdict.labels] != sets[name]["labels"]:
                raise InputError(
                    f"sets.{name}: the model no longer makes the pictures of the results: run "
                    "`python -m livo evaluate` first"
                )
            out[name] = images.permute(0, 2, 3, 1).numpy(), verdict.probs.numpy()
    return out


def _store(folder: Path, name: str, images: np.ndarray) -> str:
    """Pictures in rows of ten."""
    rows = -(-len(images) // SHEET_COLUMNS)
    height, width = images.shape[1:3]
    sheet = np.zeros((rows * height, SHEET_COLUMNS * width, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, SHEET_COLUMNS)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    Image.fromarray(sheet).save(folder / f"{name}.webp", quality=QUALITY, method=6)
    return f"{name}.webp"
