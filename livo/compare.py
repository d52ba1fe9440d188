"""One prompt, one principle, any number of methods on the same seeds: retrieved, generated, judged and measured.

    for item in compare("a photo of a doctor", engine=engine, methods=entries, judge=judge, options=options):
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

from livo.classifiers.panel import Verdicts, agree, ask, describe, measure, unanswered
from livo.inputs import validate_prompt
from livo.principles import find_principle
from livo.retriever import retrieve
from livo.types import (
    Artefact,
    Classification,
    Evidence,
    InputError,
    Judge,
    Lacking,
    Method,
    Plan,
    Principle,
    Progress,
    Retrieval,
    SamplingOptions,
)

if TYPE_CHECKING:
    from torch import Tensor

    from livo.diffusion.engine import Engine

logger = logging.getLogger(__name__)

AUTO, ALL_THAT_APPLY, NONE = "auto", "all", "none"


def choose_principle(prompt: str, choice: str = AUTO, retriever: Callable[[str], Retrieval] = retrieve) -> Retrieval:
    """The principles to apply, and the words that decided; no word decides where a person chose.

    Args:
        choice: "auto" takes the retriever's first, as the paper does; "all" takes all that it finds; "none" is no
            principle; else a principle's id.

    Returns:
        A retrieval whose `principles` are those to apply, and no others.

    Raises:
        InputError: there is no such principle.
    """
    if choice in (AUTO, ALL_THAT_APPLY):
        found = retriever(prompt)
        return (
            found
            if choice == ALL_THAT_APPLY
            else replace(found, principles=(found.principle,) if found.principle else ())
        )
    principle = None if choice == NONE else find_principle(choice)
    return Retrieval(principle, (), {}, (principle,) if principle else ())


# --- the answer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodEntry:
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
        return (
            f"{self.title} acts on {' and '.join(self.risks)} only; '{principle.text}' guards against {principle.risk}"
        )


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
        verdicts: what the judges say.
        notes: per image, what the method decided for it ("value" / "no value"), or empty.
        seconds: until its images were there; methods that ran in one batch share them.
        cost: what its images took.
    """

    applies: bool
    reason: str = ""
    images: Tensor | None = None
    verdicts: Verdicts = field(default_factory=Verdicts)
    notes: tuple[str, ...] = ()
    seconds: float | None = None
    cost: Cost | None = None

    @property
    def classification(self) -> Mapping[str, Classification]:
        """The first judge's answers by question."""
        return self.verdicts.classification


@dataclass(frozen=True)
class Comparison:
    """One prompt under every method, on the same seeds.

    Attributes:
        principle: the first of those applied.
        rows: U-Net rows that were computed for all methods together; equal ones were computed once.
        principles: all that were applied.
        remarks: what a person should know of the retrieval and of the judges.
    """

    prompt: str
    principle: Principle | None
    evidence: tuple[Evidence, ...]
    options: SamplingOptions
    backbone: str
    choice: str
    methods: Mapping[str, MethodResult]
    rows: int = 0
    principles: tuple[Principle, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self, paths: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What `python -m livo compare --json` prints.

        Args:
            paths: the image files by method, in the order of the seeds; methods without images may be left out.
        """
        principle = self.principle and {key: getattr(self.principle, key) for key in ("id", "text", "risk")}
        return {
            "prompt": self.prompt,
            "principle": principle,
            "principles": [p.id for p in self.principles],
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
                    "metrics": measure(result.classification, result.verdicts.confusion),
                    "judges": dict(result.verdicts.judge),
                    "agreement": agree(result.verdicts),
                    "seconds": None if result.seconds is None else round(result.seconds, 3),
                    "cost": result.cost and result.cost.to_json(),
                }
                for id, result in self.methods.items()
            },
            "unet_rows": self.rows,
            "remarks": list(self.remarks),
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


# --- the work --------------------------------------------------------------------------------------------------------


def compare(
    prompt: str,
    *,
    engine: Engine,
    methods: Mapping[str, MethodEntry],
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
        judge: asked all it can be asked of every image; without one there are images and no figures. A `Panel` is
            a judge made of several.
        principle: "auto", "all", "none" or a principle's id, as `choose_principle` takes it.

    Returns:
        The engine's reports while it denoises, then one `Comparison`.

    Raises:
        InputError: the prompt, the principle or the options cannot be used.
    """
    prompt = validate_prompt(prompt)
    if not methods:
        raise InputError("no method was asked for: give at least one")
    retrieval = choose_principle(prompt, principle, retriever)
    chosen = retrieval.principle
    results: dict[str, MethodResult] = {}
    plans: dict[str, Plan] = {}
    artefacts: dict[str, Artefact | None] = {}
    all_at_once: list[str] = []
    for id, entry in methods.items():
        if reason := entry.reason_against(chosen):
            results[id] = MethodResult(applies=False, reason=reason)
        elif entry.method is None:
            results[id] = MethodResult(applies=True, reason=entry.problem)
        else:
            try:
                plan = plan_for(entry.method, prompt, retrieval.principles, options)
                all_at_once += [entry.title] * hasattr(entry.method, "plan_for")
                engine.stream({id: plan}).close()  # checks the plan, does no work
                plans[id] = plan
                artefacts[id] = entry.method.artefact(chosen) if hasattr(entry.method, "artefact") else None
            except InputError:
                raise
            except Lacking as error:  # known beforehand, such as no edited weights for a new principle
                results[id] = MethodResult(applies=True, reason=_line(error))
            except Exception as error:
                results[id] = _failed(id, error)

    def look(images: Tensor) -> Verdicts:
        return ask(judge, images, prompt) if judge else Verdicts()

    def run() -> Iterator[Progress | Comparison]:
        rows = 0
        try:
            if plans:
                rows = yield from _generate(engine, plans, artefacts, look, results)
        except Exception as error:
            if len(plans) == 1:
                results.update({id: _failed(id, error) for id in plans})
            else:
                logger.warning("the shared batch failed (%s); every method runs on its own", _line(error))
                for id, plan in plans.items():
                    try:
                        rows += yield from _generate(engine, {id: plan}, artefacts, look, results)
                    except Exception as own:
                        results[id] = _failed(id, own)
        ordered = {id: results[id] for id in methods}
        remarks = [retrieval.note] if retrieval.note else []
        if len(retrieval.principles) > 1:
            remarks.append(f"{len(retrieval.principles)} principles at once: {' and '.join(all_at_once) or 'no method here'} "
                           f"applies them all, every other method '{chosen.text}' alone, if any")  # fmt: skip
        remarks += unanswered(judge, retrieval.principles) if judge else ()
        yield Comparison(
            prompt, chosen, retrieval.evidence, options, engine.backbone.name, principle, ordered, rows,
            retrieval.principles, tuple(remarks),
        )  # fmt: skip

    return run()


def plan_for(method: Method, prompt: str, principles: Sequence[Principle], options: SamplingOptions) -> Plan:
    """The method's plan: under all principles where it can take several, else under the first, or under none."""
    if len(principles) > 1 and hasattr(method, "plan_for"):
        return method.plan_for(prompt, principles, options)
    return method.plan(prompt, principles[0] if principles else None, options)


def _generate(
    engine: Engine,
    plans: Mapping[str, Plan],
    artefacts: Mapping[str, Artefact | None],
    look: Callable[[Tensor], Verdicts],
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
        results[id] = MethodResult(True, "", images, Verdicts(), plans[id].notes, report.seconds, cost)
        try:
            results[id] = replace(results[id], verdicts=look(images))
        except Exception as error:
            logger.error("the judge failed on %s", id, exc_info=error)
            results[id] = replace(results[id], reason=f"the judge failed: {_line(error)}")
    return report.rows


def _failed(id: str, error: Exception) -> MethodResult:
    logger.error("method %s failed", id, exc_info=error)
    return MethodResult(applies=True, reason=f"it failed: {_line(error)}")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
