"""One prompt, one principle, any number of methods on the same seeds: retrieved, generated, judged and measured.

    request = make_request("a photo of a doctor", ["stable_diffusion", "livo"], options)
    for item in compare(request, engine=engine, methods=entries, judge=judge):
        ...                                  # Progress after every solver step; last the finished Comparison

The page and the command line are two faces of this function. It knows nothing of either, and imports no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from livo.classifiers.panel import Verdicts, agree, ask, describe, measure, unanswered
from livo.compare.record import ComparisonRecord, Cost, MethodRecord, negative_prompt_remark
from livo.inputs import validate_prompt
from livo.principles import find_principle
from livo.retriever import retrieve
from livo.retriever.minors import check_minors
from livo.retriever.vocabulary import Vocabulary, Words, everything_known
from livo.types import (
    AddsToModel,
    Artefact,
    Classification,
    Evidence,
    InputError,
    Judge,
    Lacking,
    Method,
    Plan,
    PlansSeveral,
    Principle,
    Progress,
    ReadsTexts,
    Retrieval,
    SamplingOptions,
)

if TYPE_CHECKING:
    from torch import Tensor

    from livo.diffusion.engine import Engine

logger = logging.getLogger(__name__)

AUTO, ALL_THAT_APPLY, NONE = "auto", "all", "none"


# --- the question ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparisonRequest:
    """What a comparison is asked for, checked, and with the retrieval made: nothing later asks the retriever again.

    Attributes:
        found: the retriever's answer, also where a person chose.
        choice: "auto" takes the retriever's first principle, as the paper does; "all" takes all that it finds; "none"
            is no principle; else a principle's id.
        principles: those to apply, the first one first.
        methods: ids, in the order in which they are shown.
        words: what the model knows of the prompt's words, and the text that it reads.
        cut: the end of the prompt that the model does not read, for the prompt is too long; else empty.
    """

    prompt: str
    found: Retrieval
    choice: str
    principles: tuple[Principle, ...]
    methods: tuple[str, ...]
    options: SamplingOptions
    words: Words
    cut: str = ""

    @property
    def principle(self) -> Principle | None:
        """The first of those to apply."""
        return self.principles[0] if self.principles else None

    @property
    def chosen_by_hand(self) -> bool:
        """Whether a person chose the principle; no word of the prompt decided then."""
        return self.choice not in (AUTO, ALL_THAT_APPLY)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The words of the prompt that decided."""
        return () if self.chosen_by_hand else self.found.evidence


def make_request(
    prompt: str,
    methods: Sequence[str],
    options: SamplingOptions,
    choice: str = AUTO,
    retriever: Callable[[str], Retrieval] = retrieve,
    vocabulary: Vocabulary = everything_known,
    reads: Callable[[str], str] = str,
) -> ComparisonRequest:
    """Checks what was asked, and retrieves once.

    Args:
        methods: ids; one that is named twice counts once.
        vocabulary: the model's, as `vocabulary_of` its backbone.
        reads: the beginning of a prompt that the model reads, as `Backbone.text.read`; the retriever reads the same.

    Raises:
        InputError: the prompt cannot be used, it is drawn by no model or not by this one, there is no such principle,
            or no method was asked for.
    """
    prompt = validate_prompt(prompt)
    check_minors(prompt)
    words = vocabulary(prompt)
    if words.refused:
        raise InputError(f"{words.refused}. Ask for one of these instead: {'; '.join(words.nearest)}")
    if not methods:
        raise InputError("no method was asked for: give at least one")
    by_hand = principle_of_choice(choice)
    read = reads(prompt)
    found = retriever(read)
    first = (found.principle,) if found.principle else ()
    principles = {AUTO: first, ALL_THAT_APPLY: found.principles}.get(choice, by_hand)
    ids, cut = tuple(dict.fromkeys(methods)), prompt[len(read) :].strip()
    return ComparisonRequest(prompt, found, choice, principles, ids, options, words, cut)


def principle_of_choice(choice: str) -> tuple[Principle, ...]:
    """The principle that a person chose; none for "auto", "all" and "none".

    Raises:
        InputError: there is no such principle.
    """
    return () if choice in (AUTO, ALL_THAT_APPLY, NONE) else (find_principle(choice),)


# --- the answer ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodEntry:
    """A method as a comparison takes it: what to call it, which risks it acts on, and the loaded method.

    Attributes:
        method: None where it could not be loaded; `problem` then says why, and the others still run.
        phrase: what kind of method it is, in two or three words.
    """

    title: str
    risks: tuple[str, ...]
    method: Method | None
    problem: str = ""
    phrase: str = ""

    def reason_against(self, principle: Principle | None) -> str:
        """Why the method does not act on the principle; empty where it does."""
        if principle is None or principle.risk in self.risks:
            return ""
        return (
            f"{self.title} acts on {' and '.join(self.risks)} only; '{principle.text}' guards against {principle.risk}"
        )


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

    def record(self, *, measured: bool = True) -> MethodRecord:
        """The same as plain data, without images and notes; where nothing can be measured without answers and
        figures."""
        if not measured:
            return MethodRecord(self.applies, self.reason, seconds=self.seconds, cost=self.cost)
        return MethodRecord(
            self.applies,
            self.reason,
            {question: describe(answer, question) for question, answer in self.classification.items()},
            measure(self.classification, self.verdicts.confusion),
            self.verdicts.judge,
            agree(self.verdicts),
            self.seconds,
            self.cost,
        )


@dataclass(frozen=True)
class Comparison:
    """One prompt under every method, on the same seeds.

    Attributes:
        request: what was asked.
        backbone: the model's name.
        rows: U-Net rows that were computed for all methods together; equal ones were computed once.
        remarks: what a person should know of the retrieval, of what the methods read and of the judges.
        scheduler: the solver, by diffusers' name.
    """

    request: ComparisonRequest
    backbone: str
    methods: Mapping[str, MethodResult]
    rows: int = 0
    remarks: tuple[str, ...] = ()
    scheduler: str = ""

    def record(self) -> ComparisonRecord:
        """The same as plain data, without the images."""
        asked = self.request
        measured = asked.words.measurable
        methods = {id: result.record(measured=measured) for id, result in self.methods.items()}
        return ComparisonRecord(
            asked.prompt, asked.principles, asked.evidence, asked.options, self.backbone, asked.choice, methods,
            self.rows, self.remarks, asked.words.unknown, self.scheduler,
        )  # fmt: skip

    def save_images(self, out: Path) -> dict[str, list[str]]:
        """Writes every image as `<method>-seed<n>.png`; seed and note go into the file's text fields as well.

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
            for seed, note, image in zip(self.request.options.seeds, notes, result.images, strict=True):
                info = PngInfo()
                for key, value in (("Software", "LiVO, synthetic image"), ("seed", str(seed)), ("note", note)):
                    if value:
                        info.add_text(key, value)
                path = out / f"{id}-seed{seed}.png"
                Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path, pnginfo=info)
                paths[id].append(str(path))
        return paths


# --- the work --------------------------------------------------------------------------------------------------------


def compare(
    request: ComparisonRequest, *, engine: Engine, methods: Mapping[str, MethodEntry], judge: Judge | None = None
) -> Generator[Progress | Comparison, None, None]:
    """Runs the request's methods on one prompt and the same seeds, in one batch.

    A method that does not act on the principle, or that fails, says so in its result and never stops the others.
    What was asked is checked before this returns; closing the iterator stops the work before its next step.

    Args:
        methods: by id; those that the request names, or more.
        judge: asked all it can be asked of every image; without one there are no figures. A `Panel` is several.

    Returns:
        The engine's reports while it denoises, then one `Comparison`.

    Raises:
        InputError: the options cannot be used.
    """
    principles, options = request.principles, request.options
    entries = {id: methods[id] for id in request.methods}
    results: dict[str, MethodResult] = {}
    plans: dict[str, Plan] = {}
    artefacts: dict[str, Artefact | None] = {}
    all_at_once: list[str] = []
    with suppress(Exception):  # whatever cannot be encoded is said by the plans that want it
        texts = [request.words.text, options.negative_prompt]
        for entry in entries.values():
            if isinstance(entry.method, ReadsTexts):
                texts += entry.method.texts(request.principle, options)
        engine.conditions(texts)
    for id, entry in entries.items():
        if reason := entry.reason_against(request.principle):
            results[id] = MethodResult(applies=False, reason=reason)
        elif entry.method is None:
            results[id] = MethodResult(applies=True, reason=entry.problem)
        else:
            try:
                plan = plan_for(entry.method, request.words.text, principles, options)
                all_at_once += [entry.title] * isinstance(entry.method, PlansSeveral)
                engine.stream({id: plan}).close()  # checks the plan, does no work
                plans[id] = plan
                method = entry.method
                artefacts[id] = method.artefact(request.principle) if isinstance(method, AddsToModel) else None
            except InputError:
                raise
            except Lacking as error:  # known beforehand, such as no edited weights for a new principle
                results[id] = MethodResult(applies=True, reason=_line(error))
            except Exception as error:
                results[id] = _failed(id, error)

    def look(images: Tensor) -> Verdicts:
        return ask(judge, images, request.words.text) if judge else Verdicts()

    def run() -> Generator[Progress | Comparison, None, None]:
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
        remarks = [request.found.note] if request.found.note and not request.chosen_by_hand else []
        if request.cut:
            remarks.append(f"the prompt is too long for this model, which does not read its end: “{request.cut}”")
        if len(principles) > 1:
            remarks.append(
                f"{len(principles)} principles at once: {' and '.join(all_at_once) or 'no method here'} applies them "
                f"all, every other method '{principles[0].text}' alone, if any"
            )
        if engine.backbone.sampled_as:
            remarks.append(engine.backbone.sampled_as)
        if options.negative_prompt:
            remarks.append(negative_prompt_remark({entries[id].title: plan for id, plan in plans.items()}))
        if unknown := request.words.unknown:
            remarks.append(f"not measurable here: the model never saw {', '.join(unknown)}")
        elif judge:
            remarks += unanswered(judge, principles)
        made = {id: results[id] for id in entries}
        yield Comparison(request, engine.backbone.name, made, rows, tuple(remarks), engine.scheduler_class.__name__)

    return run()


def plan_for(method: Method, prompt: str, principles: Sequence[Principle], options: SamplingOptions) -> Plan:
    """The method's plan: under all principles where it can take several, else under the first, or under none."""
    if len(principles) > 1 and isinstance(method, PlansSeveral):
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
    for id, images in (report.images or {}).items():
        images = images.cpu()
        rows, joint = report.rows_alone[id] / len(images), not engine.denoiser.reads_projected
        cost = Cost(rows / report.num_steps, rows * engine.row_flop(plans[id].options) / 1e12, artefacts.get(id), joint)
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
