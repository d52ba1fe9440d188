"""Every method of `baselines/` on held-out concepts of the drawn world: bias, toxicity, and whether the prompt survives.

Methods run side by side through `livo.compare`, on the same seeds, exactly as the page runs them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from baselines import available, load_entrants
from livo.backbones import load_backbone
from livo.classifiers.judge import load_judge
from livo.compare import Entrant, compare
from livo.engine import Engine
from livo.metrics import discrepancy_floor, wilson_interval
from livo.miniature.captions import article
from livo.miniature.world import TOXIC_KINDS, World
from livo.types import SamplingOptions

BIAS = {"gender_equality": "gender", "racial_equality": "tone"}


def measure_methods(world: World, work: Path, *, num_steps: int, images: int) -> dict[str, Any]:
    """Figures by method id; a figure that does not apply is absent.

    Args:
        work: answers are kept in `methods.json` there as they come, so that a killed run goes on.
        images: per prompt and method; toxic prompts get half as many.

    Raises:
        RuntimeError: a method's weights are missing: a table with a hole would not say so.
    """
    backbone = load_backbone("miniature")
    engine, judge = Engine(backbone), load_judge(backbone.folder / "evaluator")
    entrants = load_entrants(available(), engine)
    for entrant in entrants.values():
        if entrant.problem:
            raise RuntimeError(entrant.problem)
    bench = _Bench(engine, judge, entrants, work / "methods.json", num_steps)
    opening = world.openings["evaluation"][0]
    bias_prompts = [f"{opening} {article(o)} {o}" for o in world.held_out["occupations"][:12]]
    out: dict[str, Any] = {id: {"title": entrant.title, "risks": entrant.risks} for id, entrant in entrants.items()}
    for principle, attribute in BIAS.items():
        answers = [bench.ask(prompt, principle, images) for prompt in tqdm(bias_prompts, desc=attribute)]
        for id in entrants:
            told = [a["methods"][id]["metrics"].get(attribute) for a in answers if a["methods"][id]["applies"]]
            if told:
                out[id][attribute] = {
                    "D1": _mean([m["discrepancy_range"] for m in told]),
                    "D2": _mean([m["discrepancy_l2"] for m in told]),
                    "prompts": len(told),
                    "images": images,
                }
    for kind in TOXIC_KINDS:
        wording = world.toxic[kind][world.held_out["toxic_wording"]]
        flagged = {id: [0, 0, 0] for id in entrants}
        for occupation in tqdm(world.held_out["occupations"][:12], desc=kind):
            prompt = f"{opening} {wording.format(who=occupation, a_who=f'{article(occupation)} {occupation}')}"
            for id, answer in bench.ask(prompt, kind, max(2, images // 2))["methods"].items():
                if answer["applies"]:
                    toxic = answer["classification"]["toxicity"]["images"]
                    read = answer["classification"]["occupation"]["images"]
                    flagged[id][0] += sum(image["toxic"] for image in toxic)
                    flagged[id][1] += sum(image["label"] == occupation for image in read)
                    flagged[id][2] += len(toxic)
        for id, (hits, kept, n) in flagged.items():
            if n:
                out[id][kind] = {"flagged": share(hits, n), "occupation recognised": share(kept, n)}
    floor = {a: discrepancy_floor(images, k).discrepancy_range for a, k in (("gender", 2), ("tone", len(world.tones)))}
    return {"floor": floor, "methods": out}


class _Bench:
    """Runs comparisons and keeps what the judge said."""

    def __init__(self, engine: Engine, judge, entrants: Mapping[str, Entrant], path: Path, num_steps: int) -> None:
        self.engine, self.judge, self.entrants, self.path, self.num_steps = engine, judge, entrants, path, num_steps
        self.weights = _digest(engine.backbone.folder)
        self.known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def ask(self, prompt: str, principle: str, images: int) -> dict[str, Any]:
        """`Comparison.to_json` of all methods."""
        key = json.dumps([prompt, principle, images, self.num_steps, self.weights])
        if key not in self.known:
            d = self.engine.backbone.defaults
            options = SamplingOptions(
                tuple(range(1000, 1000 + images)), self.num_steps, d.guidance_scale, d.height, d.width
            )
            *_, done = compare(
                prompt, engine=self.engine, methods=self.entrants, options=options, judge=self.judge, principle=principle
            )
            answer = done.to_json({})
            if failed := [row["reason"] for row in answer["methods"].values() if row["applies"] and row["reason"]]:
                raise RuntimeError(failed[0])
            self.known[key] = answer
            scratch = self.path.with_suffix(".partial")
            scratch.write_text(json.dumps(self.known))
            scratch.replace(self.path)
        return self.known[key]


def _digest(folder: Path) -> str:
    """Content of every weight file under a folder."""
    parts = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        parts.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return parts.hexdigest()[:16]


def share(hits: int, n: int) -> dict[str, float]:
    """A share with its n and 95 % Wilson interval."""
    low, high = wilson_interval(hits, n)
    return {"share": hits / n, "n": n, "low": low, "high": high}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
