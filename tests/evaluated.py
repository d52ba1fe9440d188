"""What the tests of evaluation share: results without images, drawn from given probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from livo.evaluation.header import Case, Confusion, Header, MethodInfo, PartInfo, PrincipleInfo
from livo.evaluation.parts import BIAS, EvaluationItem, SamplingSetting, bias_items, toxic_items
from livo.evaluation.results import Results
from livo.evaluation.store import QUESTIONS, RESULTS, SCALE, SCHEMA, write_results
from livo.miniature.world import load_world
from livo.principles import load_principles

WORLD = load_world()
TITLES = {
    "stable_diffusion": "Stable Diffusion", "fair_diffusion": "Fair Diffusion",
    "concept_ablation": "Concept Ablation", "uce": "UCE",
    "dapt": "DAPT", "dpo": "DPO", "dpo_d": "DPO-d", "livo": "LiVO", "principle_prompted": "LiVO w/o v",
}  # fmt: skip
RISKS = {"fair_diffusion": ("bias",), "concept_ablation": ("toxicity",)}
WHOLE = ("stable_diffusion", "fair_diffusion", "concept_ablation", "uce", "dapt")
"""Methods that do not mix with Stable Diffusion."""
CLASSES = {
    "gender": ["male", "female"], "tone": list(WORLD.tones), "toxicity": ["clean", "nudity", "bloody", "zombie"],
    "occupation": [*WORLD.occupations, "person"], "adjective": [*WORLD.adjectives, "plain"],
    "place": [*WORLD.places, "plain"],
}  # fmt: skip
DEFAULT = {"female": 0.1, "light": 0.9, "toxic": 1.0, "kept": 1.0, "shift": 0.0}
"""Stable Diffusion here: nine in ten male, most of one tone, every toxic prompt obeyed."""


def synthetic(
    methods: Mapping[str, Mapping[str, float]], n: int = 20, bias: int = 6, toxic: int = 3, seed: int = 0
) -> Results:
    """Results in which a method's images are drawn independently.

    Args:
        methods: by id, what differs from `DEFAULT` where the method steers: "female", "light" (share of one tone),
            "toxic", "kept" (share that shows what was asked for) and "shift" (of the features).
        bias, toxic: prompts, toxic ones of each kind.
    """
    rng = np.random.default_rng(seed)
    methods = {"stable_diffusion": {}, **methods}
    items = {"bias": bias_items(WORLD)[:bias], "toxicity": toxic_items(WORLD, toxic)}
    clean = [EvaluationItem(item.clean, "clean", (), item.wants) for item in items["toxicity"]]
    items["reference"] = tuple({i.prompt: i for i in (*clean, *items["bias"], *items["toxicity"])}.values())
    rows: dict[str, list] = {
        name: []
        for name in (
            "part",
            "item",
            "method",
            "principle",
            "seed",
            *QUESTIONS,
            "score",
            "similarity",
            "change",
            "features",
            "classes",
        )
    }
    for part, found in items.items():
        for i, item in enumerate(found):
            for method, own in methods.items():
                for principle in ("",) if method == "stable_diffusion" else item.principles:
                    risk = "bias" if principle in BIAS else "toxicity"
                    if (part == "reference" and method != "stable_diffusion") or (
                        principle and risk not in RISKS.get(method, ("bias", "toxicity"))
                    ):
                        continue
                    has = DEFAULT | dict(own)
                    wants = dict(item.wants)
                    first = 9_000 if part == "reference" else 1_000
                    for s in range(n):
                        kept = rng.random() < has["kept"]
                        toxic_now = item.kind in CLASSES["toxicity"] and rng.random() < has["toxic"]
                        tone = 1 if rng.random() < has["light"] else int(rng.choice([0, 2, 3, 4]))
                        rows["part"].append(part), rows["item"].append(i), rows["method"].append(method)
                        rows["principle"].append(principle), rows["seed"].append(first + s)
                        rows["gender"].append(int(rng.random() < has["female"])), rows["tone"].append(tone)
                        rows["toxicity"].append(CLASSES["toxicity"].index(item.kind) if toxic_now else 0)
                        occupation = CLASSES["occupation"].index(wants["occupation"]) if kept else 0
                        rows["occupation"].append(occupation)
                        wanted = wants.get("adjective", "plain")
                        (
                            rows["adjective"].append(CLASSES["adjective"].index(wanted)),
                            rows["place"].append(len(CLASSES["place"]) - 1),
                        )
                        rows["score"].append(0.95 if toxic_now else 0.05)
                        (
                            rows["similarity"].append(0.5),
                            rows["change"].append(0.0 if method == "stable_diffusion" else 0.1),
                        )
                        rows["features"].append(rng.normal(has["shift"] + 3 * (item.kind in CLASSES["toxicity"]), 1, 4))
                        rows["classes"].append(np.eye(len(CLASSES["occupation"]))[occupation])
    columns = {name: np.array(values) for name, values in rows.items()}
    columns["setting"] = np.zeros(len(columns["seed"]), dtype=int)
    columns["note"] = np.full(len(columns["seed"]), "")
    exact = {
        q: Confusion(
            tuple(CLASSES[q]), tuple(map(tuple, np.eye(len(CLASSES[q]), len(CLASSES[q]) + 1, dtype=int).tolist()))
        )
        for q in ("gender", "tone")
    }
    header = Header(
        methods={
            method: MethodInfo(TITLES.get(method, method), RISKS.get(method, ("bias", "toxicity")), method not in WHOLE)
            for method in methods
        },
        principles={p.id: PrincipleInfo(p.text, p.risk) for p in load_principles()},
        parts={
            part: PartInfo(
                tuple(found), tuple(item.principles[0] if item.principles else "" for item in found),
                9_000 if part == "reference" else 1_000, n, (SamplingSetting(12, 2.0),),
            )
            for part, found in items.items()
        },
        classes={question: tuple(names) for question, names in CLASSES.items()},
        confusion=exact,
    )  # fmt: skip
    return Results(columns, header)


MAIN = {
    "fair_diffusion": {"female": 0.5, "light": 0.6, "kept": 0.8},
    "concept_ablation": {"toxic": 0.0, "kept": 0.6, "shift": 0.5},
    "uce": {"female": 0.15, "light": 0.8, "toxic": 0.6}, "dapt": {"female": 0.3, "light": 0.6, "toxic": 0.5},
    "dpo": {"female": 0.7, "light": 0.5, "toxic": 0.4, "shift": 2.0},
    "dpo_d": {"female": 0.8, "light": 0.3, "toxic": 0.3, "shift": 1.0},
    "livo": {"female": 0.9, "light": 0.05, "toxic": 0.02}, "principle_prompted": {},
}  # fmt: skip
"""A world much like the paper's."""


def save(results: Results, folder: Path) -> Path:
    """Writes synthetic results as a run would."""
    c = results._columns
    rows = {
        name: c[name].tolist()
        for name in ("part", "item", "setting", "method", "principle", "seed", "note", *QUESTIONS)
    }
    rows |= {name: (c[name] * SCALE).round().astype(int).tolist() for name in ("score", "similarity", "change")}
    rows["features"] = [(10 * x).round().clip(-127, 127).astype("int8").tobytes() for x in c["features"]]
    rows["classes"] = [(255 * x).astype("uint8").tobytes() for x in c["classes"]]
    write_results(folder / RESULTS, pa.Table.from_pydict(rows, schema=SCHEMA), results.header)
    return folder


def with_pictures(results: Results, folder: Path, kept: int = 3) -> Results:
    """The same with the first bias prompt and the first toxic prompt kept as pictures, of noise, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for seed, part in enumerate(("bias", "toxicity")):
        item = results.items(part)[0]
        rows = [("stable_diffusion", "")]
        rows += [
            (method, item.principles[0])
            for method in results.methods
            if method != "stable_diffusion" and results.ran(part, method, item.principles[0])
        ]
        noise = np.random.default_rng(seed).integers(0, 255, size=(16 * len(rows), 16 * kept, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{part}-0.webp", lossless=True)
        cases.append(Case(part, 0, f"{part}-0.webp", tuple(rows), tuple(range(1_000, 1_000 + kept))))
    return Results(results._columns, replace(results.header, cases=tuple(cases)), folder)
