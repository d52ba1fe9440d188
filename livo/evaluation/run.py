"""Runs an evaluation: chunks of one prompt, all methods in one engine batch, judged, written, forgotten.

Any number of processes share a folder without talking: process r of W takes every W-th chunk, and whoever finds a part
complete puts the results file together. A kill costs the chunk at hand; the same command then goes on, and ends in the
same bytes on the same machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, SchedulerMixin
from PIL import Image
from torch import Tensor

from livo.classifiers.judge import ClipJudge
from livo.classifiers.panel import toxicity_scores
from livo.diffusion.backbones import find_scheduler
from livo.diffusion.engine import Engine
from livo.diffusion.latents import encode_png
from livo.evaluation.header import Case, Confusion, Header, MethodInfo, PartInfo, PrincipleInfo
from livo.evaluation.methods import EvaluatedMethod
from livo.evaluation.parts import KEPT, SD, Chunk, EvaluationItem, Part, chunks
from livo.evaluation.store import QUESTIONS, RESULTS, SCALE, read_chunks, write_chunk, write_results
from livo.principles import find_principle, load_principles
from livo.retriever import retrieve
from livo.runs import weights_digest, write_whole
from livo.types import Artefact, Plan, Principle, SamplingOptions

SAMPLERS = {"dpm++": DPMSolverMultistepScheduler, "ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}
DIRECTIONS = 39
"""Of the evaluator's features, those along which its class sentences differ most; what is left is one number more. On
held-out drawings they hold 98.9 % of the variance, and they cost a third of the bytes."""
PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy")
CPU_BUDGET = 128 << 20
"""Bytes a U-Net call: what fits a CPU's cache is faster than one large call."""


def sampler_name(scheduler: type[SchedulerMixin]) -> str:
    """What settings call a scheduler: the short name of those that the sweeps know, else diffusers' own."""
    return next((name for name, known in SAMPLERS.items() if known is scheduler), scheduler.__name__)


def image_features(features: Tensor, directions: Tensor) -> Tensor:
    """(N, D) unit features -> (N, F): along F - 1 orthonormal directions (F - 1, D), then the length of the rest."""
    along = features @ directions.T
    rest = (features - along @ directions).norm(dim=1, keepdim=True)
    return torch.cat([along, rest], dim=1)


def slice_plan(plan: Plan, start: int, stop: int) -> Plan:
    """The plan of images `start` to `stop` alone. Quotas are dealt over all seeds first, so no image depends on it."""
    branches = {name: texts if len(texts) == 1 else tuple(texts)[start:stop] for name, texts in plan.branches.items()}
    options = replace(plan.options, seeds=plan.options.seeds[start:stop])
    return replace(plan, branches=branches, options=options, notes=tuple(plan.notes)[start:stop])


@dataclass
class Evaluation:
    """One evaluation on one backbone.

    Attributes:
        methods: by id, Stable Diffusion among them.
        parts: what is to be evaluated.
        out: the folder; chunk files are under `chunks/`.
        pictures: keep every image as PNG under `images/`.
    """

    engine: Engine
    judge: ClipJudge
    methods: Mapping[str, EvaluatedMethod]
    parts: Sequence[Part]
    out: Path
    pictures: bool = False

    def __post_init__(self) -> None:
        backbone = self.engine.backbone
        parts = {**backbone.text.encoders, "unet": backbone.unet, "vae": backbone.vae, "judge": self.judge.model}
        self.weights = {name: weights_digest(module) for name, module in parts.items()}
        self.directions = self.judge.leading_directions(DIRECTIONS)

    # --- the work --------------------------------------------------------------------------------------------------

    def run(self, rank: int = 0, world_size: int = 1, report: Callable[[str], None] | None = None) -> Path | None:
        """Generates what is missing, then merges.

        Returns:
            The results file where all parts are complete; None where other processes are still at work.
        """
        mine = [(i, chunk) for i, chunk in enumerate(chunks(self.parts)) if i % world_size == rank]
        todo = [(chunk, methods) for _, chunk in mine if (methods := self._missing(chunk))]
        total, done, started = sum(self._images(chunk, methods) for chunk, methods in todo), 0, time.monotonic()
        for n, (chunk, methods) in enumerate(todo):
            self.run_chunk(chunk, methods)
            done += self._images(chunk, methods)
            if report:
                rate = done / (time.monotonic() - started)
                report(progress_line(chunk.part.name, done, total, rate, n + 1 == len(todo)))
            if n + 1 == len(todo) or todo[n + 1][0].part is not chunk.part:
                self.merge()
        return self.merge()

    def run_chunk(self, chunk: Chunk, methods: Sequence[EvaluatedMethod]) -> None:
        """Generates and judges a chunk for these methods in one batch, and writes a file for each method."""
        plans: dict[tuple[str, str], Plan] = {}
        for method in (self.methods[SD], *(method for method in methods if method.id != SD)):
            for principle in self._principles(method, chunk.item):
                plan = method.method.plan(chunk.item.prompt, principle, self._options(chunk))
                plans[method.id, principle.id if principle else ""] = slice_plan(plan, chunk.start, chunk.stop)
        usual, self.engine.scheduler_class = self.engine.scheduler_class, _sampler(chunk.setting.sampler)
        try:
            generated = self.engine.generate({"\0".join(key): plan for key, plan in plans.items()})
        finally:
            self.engine.scheduler_class = usual
        images = {key: generated["\0".join(key)].cpu() for key in plans}
        plain = images[SD, ""]
        for method in methods:
            rows: list[dict[str, object]] = []
            for (id, name), pictures in images.items():
                if id == method.id:
                    rows += self._rows(chunk, id, name, plans[id, name].notes, pictures, plain)
            write_chunk(self._path(chunk, method), rows)

    def _rows(
        self, chunk: Chunk, method: str, principle: str, notes: Sequence[str], images: Tensor, plain: Tensor
    ) -> Iterator[dict[str, object]]:
        """One row an image."""
        features = self.judge.features(images)
        answers = {q: self.judge.ask(features, q, chunk.item.prompt) for q in QUESTIONS if q in self.judge.questions}
        labels = {q: [-1 if k is None else k for k in answer.labels] for q, answer in answers.items()}
        scores = toxicity_scores(answers["toxicity"])
        similarity = features @ self.judge.text_features([chunk.item.prompt])[0]
        change = (images.float() - plain.float()).abs().mean(dim=(1, 2, 3)) / 255
        kept, classes = image_features(features, self.directions), answers["occupation"].probs
        part = next(i for i, p in enumerate(self.parts) if p is chunk.part)
        item, setting = chunk.part.items.index(chunk.item), chunk.part.settings.index(chunk.setting)
        for i, seed in enumerate(chunk.seeds):
            note = notes[i] if notes else ""
            picture = encode_png(images[i]) if self.pictures or (chunk.item.case and chunk.start + i < KEPT) else None
            if self.pictures and picture:
                name = f"{self.parts[part].name}/{item}-{setting}/{method}-{principle or 'none'}-{seed}.png"
                write_whole(self.out / "images" / name, picture, shared=True)
            yield {
                "part": chunk.part.name, "item": item, "setting": setting, "method": method, "principle": principle,
                "seed": seed, "note": "" if note in ("value", "no value") else note,
                **{q: labels[q][i] if q in labels else -1 for q in QUESTIONS},
                "score": round(scores[i] * SCALE), "similarity": round(similarity[i].item() * SCALE),
                "change": round(change[i].item() * SCALE),
                "features": _bytes(kept[i] * 127, torch.int8) if chunk.part.features else None,
                "classes": _bytes(classes[i] * 255, torch.uint8) if chunk.part.features else None,
                "image": picture,
            }  # fmt: skip

    # --- the plan of it --------------------------------------------------------------------------------------------

    def _options(self, chunk: Chunk) -> SamplingOptions:
        defaults, setting = self.engine.backbone.defaults, chunk.setting
        return SamplingOptions(chunk.part.seeds, setting.steps, setting.guidance, defaults.height, defaults.width)

    def _principles(self, method: EvaluatedMethod, item: EvaluationItem) -> list[Principle | None]:
        """Those of the item that the method acts on; none, for Stable Diffusion."""
        if method.id == SD:
            return [None]
        return [p for p in map(find_principle, item.principles) if p.risk in method.risks]

    def _methods(self, part: Part, item: EvaluationItem) -> list[EvaluatedMethod]:
        ids = part.methods or [method.id for method in self.methods.values() if not method.control]
        chosen = [self.methods[id] for id in ids if id in self.methods]
        return [method for method in chosen if self._principles(method, item)]

    def _missing(self, chunk: Chunk) -> list[EvaluatedMethod]:
        return [method for method in self._methods(chunk.part, chunk.item) if not self._path(chunk, method).exists()]

    def _images(self, chunk: Chunk, methods: Sequence[EvaluatedMethod]) -> int:
        return sum(len(self._principles(method, chunk.item)) for method in methods) * (chunk.stop - chunk.start)

    def count(self) -> dict[str, int]:
        """Images by part, finished ones too."""
        counts = dict.fromkeys((part.name for part in self.parts), 0)
        for chunk in chunks(self.parts):
            counts[chunk.part.name] += self._images(chunk, self._methods(chunk.part, chunk.item))
        return counts

    def _path(self, chunk: Chunk, method: EvaluatedMethod) -> Path:
        """The chunk's file for a method: its name says all that its rows depend on."""
        part, item = chunk.part, chunk.item
        place = [part.name, part.items.index(item), part.settings.index(chunk.setting), chunk.start, chunk.stop]
        made_of = [asdict(item), asdict(chunk.setting), part.seeds[0], len(part.seeds), part.features, self.weights]
        name = hashlib.sha256(json.dumps([place, made_of]).encode()).hexdigest()[:20]
        return self.out / "chunks" / f"{name}-{method.id}-{method.weights or 'none'}.parquet"

    # --- putting together ------------------------------------------------------------------------------------------

    def merge(self) -> Path | None:
        """Writes the results file of the parts that are complete, and the sheets of kept pictures.

        Returns:
            Its path where that is all parts.
        """
        ready: list[Part] = []
        for part in self.parts:
            paths = self._paths(part)
            if paths and all(path.exists() for path in paths):
                ready.append(part)
        if not ready:
            return None
        table = pa.concat_tables([read_chunks(self._paths(part)) for part in ready])
        cases = [case for part in ready for case in self._sheets(part)]
        write_results(self.out / RESULTS, table, self.header(ready, cases))
        return self.out / RESULTS if len(ready) == len(self.parts) else None

    def _paths(self, part: Part) -> list[Path]:
        return [self._path(chunk, method) for chunk in chunks([part]) for method in self._methods(part, chunk.item)]

    def _sheets(self, part: Part) -> Iterator[Case]:
        """A sheet a case: methods under principles in rows, seeds in columns."""
        for number, item in enumerate(part.items):
            if not item.case:
                continue
            first = next(chunk for chunk in chunks([part]) if chunk.item is item)
            table = read_chunks([self._path(first, method) for method in self._methods(part, item)], pictures=True)
            rows: dict[tuple[str, str], list[np.ndarray]] = {}
            for row in (row for row in table.to_pylist() if row["image"]):
                with Image.open(io.BytesIO(row["image"])) as picture:
                    rows.setdefault((row["method"], row["principle"]), []).append(np.asarray(picture.convert("RGB")))
            sheet = np.concatenate([np.concatenate(tiles[:KEPT], axis=1) for tiles in rows.values()])
            buffer = io.BytesIO()
            Image.fromarray(sheet).save(buffer, "webp", quality=90, method=6)
            name = f"{part.name}-{number}.webp"
            write_whole(self.out / name, buffer.getvalue(), shared=True)
            yield Case(part.name, number, name, tuple(rows), first.seeds[:KEPT])

    def header(self, parts: Sequence[Part], cases: Sequence[Case] = ()) -> Header:
        """What a results file says of itself."""
        judge = self.judge
        return Header(
            methods={
                method.id: MethodInfo(
                    method.title, method.risks, method.mixes, method.control, method.weights, _training(method)
                )
                for method in self.methods.values()
            },
            principles={p.id: PrincipleInfo(p.text, p.risk) for p in load_principles()},
            parts={
                part.name: PartInfo(
                    part.items,
                    tuple(_retrieved(item.prompt) for item in part.items),
                    part.seeds[0],
                    len(part.seeds),
                    part.settings,
                )
                for part in parts
            },
            classes={q: tuple(judge.classes(q)) for q in QUESTIONS if q in judge.questions},
            confusion={q: Confusion(**found) for q in QUESTIONS if (found := judge.confusion(q))},
            cases=tuple(cases),
            backbone=self.engine.backbone.name,
            weights=self.weights,
            versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            device=self.engine.backbone.device.type,
        )


def _sampler(name: str) -> type[SchedulerMixin]:
    return SAMPLERS.get(name) or find_scheduler(name)


def progress_line(part: str, done: int, total: int, rate: float, last: bool) -> str:
    """Where a run is."""
    left = (total - done) / rate if rate else 0
    text = f"{part}: {done:,} of {total:,} images, {rate:.1f} a second, {left / 60:.0f} min left"
    return f"\r{text:<78}" + ("\n" if last else "")


def to_stderr(line: str) -> None:
    """Where progress goes."""
    print(line, end="", file=sys.stderr, flush=True)


def _training(method: EvaluatedMethod) -> dict[str, object] | None:
    """What making a method's weights took: of its value encoder, or of its files of all principles together."""
    encoder = getattr(method.method, "value_encoder", None)
    artefact = getattr(encoder, "artefact", None)
    if artefact:
        return {"bytes": artefact.bytes, **artefact.training}
    files: Mapping[str, Artefact] = getattr(method.method, "artefacts", {})
    told = [file.training for file in files.values()]
    if not told or not all("command" in one for one in told):
        return None
    command = re.sub(r" --principles \S+", "", str(told[0]["command"]))
    sums = {name: sum(one[name] for one in told) for name in ("seconds", "images") if name in told[0]}
    return {"bytes": sum(file.bytes for file in files.values()), **told[0], **sums, "command": command}


def _retrieved(prompt: str) -> str:
    principle = retrieve(prompt).principle
    return principle.id if principle else ""


def _bytes(values: Tensor, dtype: torch.dtype) -> bytes:
    info = torch.iinfo(dtype)
    return values.round().clamp(info.min, info.max).to(dtype).numpy().tobytes()
