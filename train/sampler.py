"""`python -m train.sampler`: how few solver steps the drawn world needs, by a rule that was written before looking.

Each setting is held against 50 steps of DPM-Solver++, on the same seeds and the evaluation's 60 prompts: 24 about
people under both principles against bias, 36 toxic ones under their own. **The rule.** A setting is good enough if, for
the base model and for LiVO, D1 of gender and of tone, the toxic share and the share that kept its subject differ from
the reference's by something whose 95 % interval, over subjects, lies within 5 points. Of the good ones that of the
fewest steps is chosen; of these, that whose pictures are nearest to the reference's. A setting may end in a precision,
as "DPM-Solver++, 12 steps, bfloat16" does, and another reference may come first: by the same rule bfloat16 is good
enough or not.

What was measured is kept in `sampler.json` beside the weights, a setting at a time, so that a kill loses one at most.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from baselines.stable_diffusion import StableDiffusion
from livo.classifiers.judge import ClipJudge, load_judge
from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine
from livo.evaluation.parts import BIAS, LIVO, MAIN_SEED, SD, EvaluationItem, bias_items, toxic_items
from livo.measures.bootstrap import bootstrap_mean
from livo.measures.estimates import Estimate
from livo.measures.metrics import discrepancy_range
from livo.measures.tables import Table, figure, words
from livo.methods.livo import LiVO
from livo.methods.value_encoder import load_value_encoder
from livo.miniature.world import load_world
from livo.principles import find_principle
from livo.runs import weights_digest, write_whole
from livo.types import Method, SamplingOptions

FILE = Path(__file__).resolve().parent.parent / "assets" / "miniature" / "sampler.json"
SOLVERS = {"DPM-Solver++": DPMSolverMultistepScheduler, "UniPC": UniPCMultistepScheduler}
REFERENCE = "DPM-Solver++, 50 steps"
SETTINGS = (
    REFERENCE,
    *(f"DPM-Solver++, {n} steps" for n in (12, 10, 8, 6)),
    *(f"UniPC, {n} steps" for n in (10, 8, 6, 5)),
)
MARGIN = 5.0
"""Points that nobody would see in a comparison of eight pictures, where one picture is 12.5."""
FIGURES = ("gender D1", "tone D1", "toxic", "kept")
METHODS = (SD, LIVO)


@dataclass(frozen=True)
class Difference:
    """A setting against the reference: one figure of one method, in points."""

    setting: str
    method: str
    figure: str
    estimate: Estimate

    @property
    def within(self) -> bool:
        """Whether the whole interval lies within the margin; where all prompts agree, whether the value does."""
        e = self.estimate
        low, high = (e.low, e.high) if e.has_interval else (e.value, e.value)
        return low >= -MARGIN and high <= MARGIN


def read_setting(name: str) -> tuple[type, int, str]:
    """The solver's class, the steps and the precision of a setting's name."""
    solver, steps, *dtype = name.split(", ")
    return SOLVERS[solver], int(steps.removesuffix(" steps")), dtype[0] if dtype else "float32"


def figures_of(judge: ClipJudge, images: Tensor, item: EvaluationItem, principle: str) -> dict[str, float]:
    """A set's figures in points: those that its principle asks for, and how many kept what the prompt is about.

    Args:
        images: (N, 3, H, W) uint8.
        principle: id of the principle that the set is measured under.
    """
    features = judge.features(images)
    kept = torch.ones(len(images), dtype=torch.bool)
    for question, wanted in item.wants:
        answer = judge.ask(features, question, item.prompt)
        kept &= torch.tensor([k is not None and answer.classes[k] == wanted for k in answer.labels])
    found = {"kept": 100 * kept.float().mean().item()}
    if principle not in BIAS:
        clean = judge.ask(features, "toxicity").probs[:, 0]
        return {"toxic": 100 * (clean <= 0.5).float().mean().item()} | found
    question = "gender" if principle == BIAS[0] else "tone"
    answer = judge.ask(features, question)
    counts = [answer.labels.count(k) for k in range(len(answer.classes))]
    return {f"{question} D1": 100 * discrepancy_range(counts)} | found if sum(counts) else found


def measure(
    setting: str, engine: Engine, judge: ClipJudge, methods: Mapping[str, Method], images: int,
    references: dict[tuple[str, str, str], Tensor], items: Sequence[EvaluationItem],
) -> list[dict[str, Any]]:  # fmt: skip
    """All sets of a setting, one row a method, prompt and principle.

    Args:
        references: the reference's pictures by method, prompt and principle; filled where the setting is the reference.
    """
    engine.scheduler_class, steps, _ = read_setting(setting)
    d = engine.backbone.defaults
    options = SamplingOptions(tuple(range(MAIN_SEED, MAIN_SEED + images)), steps, d.guidance_scale, d.height, d.width)
    rows = []
    for item in items:
        sets = [(SD, ""), *((LIVO, principle) for principle in item.principles)]
        plans = {
            f"{id} {name}": methods[id].plan(item.prompt, find_principle(name) if name else None, options)
            for id, name in sets
        }
        made = engine.generate(plans)
        for principle in item.principles:
            for id, name in ((SD, ""), (LIVO, principle)):
                pictures = made[f"{id} {name}"].cpu()
                reference = references.setdefault((id, item.prompt, name), pictures)
                change = (pictures.float() - reference.float()).abs().mean().item()
                figures = figures_of(judge, pictures, item, principle)
                rows.append({"method": id, "prompt": item.prompt, "subject": item.subject, "principle": principle,
                             "change": round(change, 3), **{k: round(v, 3) for k, v in figures.items()}})  # fmt: skip
    return rows


def differences(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Difference]:
    """Every setting against the first, which is the reference, paired by set, subjects drawn again."""
    out = []
    reference, *others = found
    for setting in others:
        for method in METHODS:
            for name in FIGURES:
                pairs = [
                    (row[name] - base[name], row["subject"])
                    for row, base in zip(found[setting], found[reference], strict=True)
                    if row["method"] == method and name in row and name in base
                ]
                estimate = bootstrap_mean([value for value, _ in pairs], [subject for _, subject in pairs])
                out.append(Difference(setting, method, name, estimate))
    return out


def picture_distance(rows: Sequence[Mapping[str, Any]]) -> float:
    """Mean absolute difference to the reference's pictures, in grey levels of 255."""
    return sum(row["change"] for row in rows) / len(rows)


def choose(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """The setting that the rule picks; None where none is good enough."""
    all_of = differences(found)
    good = [s for s in list(found)[1:] if all(d.within for d in all_of if d.setting == s)]
    return min(good, key=lambda s: (read_setting(s)[1], picture_distance(found[s])), default=None)


def table(found: Mapping[str, Sequence[Mapping[str, Any]]], images: int) -> str:
    """What was found, as Markdown, and what the rule picks."""
    all_of, head = differences(found), ("setting", "grey levels")
    columns = [(method, name) for method in METHODS for name in FIGURES]
    titles = {SD: "base", LIVO: "LiVO"}
    rows = []
    reference, *others = found
    for setting in others:
        own = {(d.method, d.figure): d for d in all_of if d.setting == setting}
        cells = [replace(figure(own[c].estimate, 1), mark="" if own[c].within else "(out)") for c in columns]
        rows.append((*words(setting, f"{picture_distance(found[setting]):.2f}"), *cells))
    chosen = choose(found)
    grid = Table("sampler", "", (*head, *(f"{titles[m]}: {f}" for m, f in columns)), tuple(rows)).grid()
    prompts = len({row["prompt"] for row in found[reference]})
    return (
        f"{grid}\n\nDifferences to {reference}, in points, with 95 % intervals over subjects; {prompts} prompts x "
        f"{images} images. The rule picks **{chosen or 'none of them'}**."
    )


def sampling(dtype: str) -> tuple[Engine, dict[str, Method]]:
    """The miniature in a precision, and the methods on it."""
    backbone = load_backbone("miniature", dtype=dtype)
    engine = Engine(backbone)
    encoder = load_value_encoder(backbone.folder / "value_encoder", backbone)
    return engine, {SD: StableDiffusion(engine), LIVO: LiVO(engine, encoder)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m train.sampler", description=__doc__)
    parser.add_argument("--images", type=int, default=8, help="a prompt and method (%(default)s)")
    parser.add_argument("--settings", default="; ".join(SETTINGS), help="by semicolon, the reference first")
    parser.add_argument("--prompts", type=int, help="only the first of each kind, to try it")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=FILE, help="(assets/miniature/sampler.json)")
    parser.add_argument("--show", action="store_true", help="print what was measured, and measure nothing")
    args = parser.parse_args(arguments)
    stored = json.loads(args.out.read_text()) if args.out.is_file() else {}
    if args.show:
        print(table(stored["settings"], stored["images"]))
        return 0
    torch.set_num_threads(args.threads)
    backbone = load_backbone("miniature")
    judge = load_judge(backbone.folder / "evaluator")
    digest = weights_digest(backbone.text_encoder, backbone.unet, backbone.vae, judge.model)
    about = {"images": args.images, "weights": digest, "guidance": backbone.defaults.guidance_scale}
    if {key: stored.get(key) for key in about} != about:
        stored = {**about, "settings": {}}
    world = load_world()
    items = (*bias_items(world)[: args.prompts], *toxic_items(world)[: args.prompts])
    references: dict[tuple[str, str, str], Tensor] = {}
    settings = [s.strip() for s in args.settings.split(";")]
    reference = next(iter(stored["settings"]), settings[0])
    missing = [s for s in settings if s not in stored["settings"] and s != reference]
    # The reference's pictures are not kept, and are made anew for whatever is compared with them.
    for setting in (reference, *missing) if missing or reference not in stored["settings"] else ():
        engine, methods = sampling(read_setting(setting)[2])
        rows = measure(setting, engine, judge, methods, args.images, references, items)
        stored["settings"][setting] = rows
        write_whole(args.out, (json.dumps(stored, indent=None, separators=(",", ":")) + "\n").encode())
        print(f"{setting}: {picture_distance(rows):.2f} grey levels from the reference", flush=True)
    print(table(stored["settings"], args.images))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
