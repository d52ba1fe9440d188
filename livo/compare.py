"""One prompt, one principle, any number of methods on the same seeds: retrieved, generated, judged and measured.

    for item in compare("a photo of a doctor", engine=engine, methods=entrants, judge=judge, options=options):
        ...                                  # Progress after every solver step; last the finished Comparison

The page and the command line are two faces of this function. It knows nothing of either, and imports no torch.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livo.inputs import validate_prompt
from livo.metrics import (
    TOXIC_ABOVE,
    discrepancy_floor,
    discrepancy_l2,
    discrepancy_range,
    toxicity_ratio,
    toxicity_score,
    wilson_interval,
)
from livo.principles import find_principle
from livo.retriever import retrieve
from livo.types import (
    Artefact,
    Classification,
    Evidence,
    InputError,
    Judge,
    Method,
    Plan,
    Principle,
    Progress,
    Retrieval,
    SamplingOptions,
)

if TYPE_CHECKING:
    from torch import Tensor

    from livo.engine import Engine

logger = logging.getLogger(__name__)

QUESTIONS = ("gender", "tone", "toxicity", "occupation")
"""What every comparison asks its judge, as far as the judge can answer."""

BIAS_QUESTIONS = ("gender", "tone")
AUTO, NONE = "auto", "none"
CLEAN = "clean"


def choose_principle(
    prompt: str, choice: str = AUTO, retriever: Callable[[str], Retrieval] = retrieve
) -> tuple[Principle | None, tuple[Evidence, ...]]:
    """The principle to apply, and the words that decided; no word decides where a person chose.

    Args:
        choice: "auto" asks the retriever; "none" is no principle; else a principle's id.

    Raises:
        InputError: there is no such principle.
    """
    if choice == AUTO:
        retrieval = retriever(prompt)
        return retrieval.principle, retrieval.evidence
    return (None if choice == NONE else find_principle(choice)), ()


def find_judge(folder: Path | None) -> Judge | None:
    """The judge that lies in a backbone's folder, or None where there is none.

    Raises:
        JudgeError: there is one, and it cannot be read.
    """
    if folder is None or not (folder / "evaluator").is_dir():
        return None
    from livo.classifiers.judge import load_judge

    return load_judge(folder / "evaluator")


# --- the answer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entrant:
    """A method as a comparison takes it: what to call it, which risks it acts on, and the loaded method.

    Attributes:
        method: None where it could not be loaded; `problem` then says why, and the others still run.
    """

    title: str
    risks: tuple[str, ...]
    method: Method | None
    problem: str = ""

    def reason_against(self, principle: Principle | None) -> str:
        """Why the method does not act on the principle; empty where it does."""
        if principle is None or principle.risk in self.risks:
            return ""
        return f"{self.title} acts on {' and '.join(self.risks)} only; '{principle.text}' guards against {principle.risk}"


@dataclass(frozen=True)
class Cost:
    """What a method's images took.

    Attributes:
        rows: U-Net rows for one image at one solver step, had the method run alone; 2 for Stable Diffusion.
        tflop: 10^12 operations of the U-Net for one image.
        artefact: what the method adds to the backbone; None where it adds nothing.
    """

    rows: float
    tflop: float
    artefact: Artefact | None

    def to_json(self) -> dict[str, Any]:
        """Flat, with bytes and training only where there is an artefact."""
        out: dict[str, Any] = {"rows": round(self.rows, 2), "tflop": float(f"{self.tflop:.4g}")}
        return out | ({"bytes": self.artefact.bytes, "training": dict(self.artefact.training)} if self.artefact else {})


@dataclass(frozen=True)
class MethodResult:
    """What one method made of the prompt.

    Attributes:
        applies: False where the method does not act on the principle.
        reason: why there are no images, or no figures; empty where there are.
        images: (N, 3, H, W) uint8, image i from seed i; None where there are none.
        classification: the judge's answers by question.
        notes: per image, what the method decided for it ("value" / "no value"), or empty.
        seconds: until its images were there; methods that ran in one batch share them.
        cost: what its images took.
    """

    applies: bool
    reason: str = ""
    images: Tensor | None = None
    classification: Mapping[str, Classification] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class Comparison:
    """One prompt under every method, on the same seeds.

    Attributes:
        rows: U-Net rows that were computed for all methods together; equal ones were computed once.
    """

    prompt: str
    principle: Principle | None
    evidence: tuple[Evidence, ...]
    options: SamplingOptions
    backbone: str
    choice: str
    methods: Mapping[str, MethodResult]
    rows: int = 0

    def to_json(self, paths: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What `python -m livo compare --json` prints.

        Args:
            paths: the image files by method, in the order of the seeds; methods without images may be left out.
        """
        principle = self.principle and {key: getattr(self.principle, key) for key in ("id", "text", "risk")}
        return {
            "prompt": self.prompt,
            "principle": principle,
            "evidence": [asdict(item) for item in self.evidence],
            "options": {
                "backbone": self.backbone,
                "principle": self.choice,
                **asdict(self.options),
                "seeds": list(self.options.seeds),
            },
            "methods": {
                id: {
                    "applies": result.applies,
                    "reason": result.reason or None,
                    "images": list(paths.get(id, ())),
                    "classification": {q: describe(c, q) for q, c in result.classification.items()},
                    "metrics": measure(result.classification),
                    "seconds": None if result.seconds is None else round(result.seconds, 3),
                    "cost": result.cost and result.cost.to_json(),
                }
                for id, result in self.methods.items()
            },
            "unet_rows": self.rows,
        }

    def save_images(self, out: Path) -> dict[str, list[str]]:
        """Writes every image as PNG under a name that says nothing; seed and note go into the file's text fields.

        Returns:
            Paths by method, in the order of the seeds.

        Raises:
            OSError: the folder cannot be written.
        """
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        paths: dict[str, list[str]] = {}
        for id, result in self.methods.items():
            if result.images is None:
                continue
            notes = result.notes or ("",) * len(result.images)
            paths[id] = []
            for seed, note, image in zip(self.options.seeds, notes, result.images, strict=True):
                pixels = image.permute(1, 2, 0).contiguous().numpy()
                digest = hashlib.sha256(f"{id}\0{seed}\0{self.prompt}\0".encode() + pixels.tobytes())
                info = PngInfo()
                for key, value in (("Software", "LiVO, synthetic image"), ("seed", str(seed)), ("note", note)):
                    if value:
                        info.add_text(key, value)
                path = out / f"{digest.hexdigest()[:20]}.png"
                Image.fromarray(pixels).save(path, pnginfo=info)
                paths[id].append(str(path))
        return paths


def toxicity_scores(classification: Classification) -> list[float]:
    """Per image, the probability that it is not clean."""
    clean = classification.classes.index(CLEAN)
    return [min(1.0, max(0.0, 1.0 - p)) for p in classification.probs[:, clean].tolist()]


def describe(classification: Classification, question: str) -> dict[str, Any]:
    """A judge's answer for JSON: counts, abstentions, and label and probability of every image."""
    labels = classification.labels
    top = classification.probs.max(dim=1).values.tolist()
    images = [
        {"label": None if label is None else classification.classes[label], "probability": round(p, 4)}
        for label, p in zip(labels, top, strict=True)
    ]
    if question == "toxicity":
        for image, score in zip(images, toxicity_scores(classification), strict=True):
            image |= {"score": round(score, 4), "toxic": score > TOXIC_ABOVE}
    return {
        "classes": list(classification.classes),
        "counts": classification.counts,
        "abstained": classification.abstained,
        "images": images,
    }


def measure(classifications: Mapping[str, Classification]) -> dict[str, Any]:
    """The figures of one method's images, by question; a figure that does not apply is absent.

    `n` counts the images that the judge placed. Ratios lie in [0, 1]; intervals are Wilson's at 95 %.
    """
    figures: dict[str, Any] = {}
    for question in BIAS_QUESTIONS:
        answer = classifications.get(question)
        if answer is None or sum(answer.counts) == 0:
            continue
        counts, n = answer.counts, sum(answer.counts)
        figures[question] = {
            "n": n,
            "discrepancy_range": discrepancy_range(counts),
            "discrepancy_l2": discrepancy_l2(counts),
            "floor": discrepancy_floor(n, len(counts))._asdict(),
            "intervals": {c: list(wilson_interval(k, n)) for c, k in zip(answer.classes, counts, strict=True)},
        }
    if "toxicity" in classifications:
        scores = toxicity_scores(classifications["toxicity"])
        flagged = sum(score > TOXIC_ABOVE for score in scores)
        figures["toxicity"] = {
            "n": len(scores),
            "toxicity_ratio": toxicity_ratio(scores),
            "toxicity_score": toxicity_score(scores),
            "interval": list(wilson_interval(flagged, len(scores))),
        }
    return figures


# --- the work --------------------------------------------------------------------------------------------------------


def compare(
    prompt: str,
    *,
    engine: Engine,
    methods: Mapping[str, Entrant],
    options: SamplingOptions,
    judge: Judge | None = None,
    principle: str = AUTO,
    retriever: Callable[[str], Retrieval] = retrieve,
) -> Iterator[Progress | Comparison]:
    """Runs the methods on one prompt and the same seeds, in one batch.

    A method that does not act on the principle, or that fails, says so in its result and never stops the others.
    What was asked is checked before this returns; closing the iterator stops the work before its next step.

    Args:
        methods: by id.
        judge: asked `QUESTIONS` of every image; without one there are images and no figures.
        principle: "auto", "none" or a principle's id.

    Returns:
        The engine's reports while it denoises, then one `Comparison`.

    Raises:
        InputError: the prompt, the principle or the options cannot be used.
    """
    prompt = validate_prompt(prompt)
    if not methods:
        raise InputError("no method was asked for: give at least one")
    chosen, evidence = choose_principle(prompt, principle, retriever)
    results: dict[str, MethodResult] = {}
    plans: dict[str, Plan] = {}
    artefacts: dict[str, Artefact | None] = {}
    for id, entrant in methods.items():
        if reason := entrant.reason_against(chosen):
            results[id] = MethodResult(applies=False, reason=reason)
        elif entrant.method is None:
            results[id] = MethodResult(applies=True, reason=entrant.problem)
        else:
            try:
                plan = entrant.method.plan(prompt, chosen, options)
                engine.stream({id: plan}).close()  # checks the plan, does no work
                plans[id] = plan
                artefacts[id] = entrant.method.artefact(chosen) if hasattr(entrant.method, "artefact") else None
            except InputError:
                raise
            except Exception as error:
                results[id] = _failed(id, error)

    def run() -> Iterator[Progress | Comparison]:
        rows = 0
        try:
            if plans:
                rows = yield from _generate(engine, plans, artefacts, judge, results)
        except Exception as error:
            if len(plans) == 1:
                results.update({id: _failed(id, error) for id in plans})
            else:
                logger.warning("the shared batch failed (%s); every method runs on its own", _line(error))
                for id, plan in plans.items():
                    try:
                        rows += yield from _generate(engine, {id: plan}, artefacts, judge, results)
                    except Exception as own:
                        results[id] = _failed(id, own)
        ordered = {id: results[id] for id in methods}
        yield Comparison(prompt, chosen, evidence, options, engine.backbone.name, principle, ordered, rows)

    return run()


def _generate(
    engine: Engine,
    plans: Mapping[str, Plan],
    artefacts: Mapping[str, Artefact | None],
    judge: Judge | None,
    results: dict[str, MethodResult],
) -> Generator[Progress, None, int]:
    """Runs plans in one batch and puts what came of them into `results`; returns the U-Net rows computed."""
    with closing(engine.stream(plans)) as stream:
        for report in stream:
            yield report
    for id, images in report.images.items():
        images = images.cpu()
        rows, options = report.rows_alone[id] / len(images), plans[id].options
        cost = Cost(rows / report.num_steps, rows * engine.row_flop(options) / 1e12, artefacts.get(id))
        results[id] = MethodResult(True, "", images, {}, plans[id].notes, report.seconds, cost)
        if judge is None:
            continue
        try:
            answers = {question: judge(images, question) for question in QUESTIONS if question in judge.questions}
            results[id] = replace(results[id], classification=answers)
        except Exception as error:
            logger.error("the judge failed on %s", id, exc_info=error)
            results[id] = replace(results[id], reason=f"the judge failed: {_line(error)}")
    return report.rows


def _failed(id: str, error: Exception) -> MethodResult:
    logger.error("method %s failed", id, exc_info=error)
    return MethodResult(applies=True, reason=f"it failed: {_line(error)}")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
