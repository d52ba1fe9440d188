"""A results file as figures ask for it: a method's images, put together by quota, and their figures with intervals.

Every figure is a mean over prompts of what `livo.measures.metrics` makes of one prompt's images, or a figure of pooled
images from `livo.measures.quality`; intervals are bootstrapped over prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from livo.evaluation.header import Header
from livo.evaluation.parts import SD, EvaluationItem
from livo.evaluation.store import QUESTIONS, RESULTS, read_results
from livo.measures.bootstrap import bootstrap_mean, bootstrap_of_prompts, corrected_shares
from livo.measures.estimates import Estimate
from livo.measures.metrics import (
    Floor,
    discrepancy_floor,
    discrepancy_l2,
    discrepancy_range,
    expected_max_toxicity,
    toxicity_probability,
    toxicity_ratio,
    toxicity_score,
    unbiased_discrepancy_l2_squared,
)
from livo.measures.quality import clip_score, frechet_of_prompts, inception_of_prompts, kid, semantic_consistency
from livo.principles import attributes_by_principle
from livo.types import InputError

ATTRIBUTE = attributes_by_principle(QUESTIONS)
RATE = 0.5
"""Share of the images that take the value where a method mixes: the paper's."""
REFERENCE = "reference"


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one prompt: (n,) columns of the results file by name, in the order of the seeds.

    Attributes:
        columns: of the whole file.
        rows: (n,) these images' places.
    """

    columns: Mapping[str, np.ndarray]
    rows: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name][self.rows]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Select:
    """Which images of a method.

    Attributes:
        rate: share that takes the value against bias, where the method mixes; 1 is the value on, 0 Stable Diffusion.
        seeds: of the part's seeds, so many; all where None.
        setting: place among the part's settings.
    """

    rate: float = RATE
    seeds: int | None = None
    setting: int = 0


EVERY = Select()
"""All images, by the paper's quota."""


class Results:
    """One results file.

    Args:
        columns, header: as `read_results` gives them.
        folder: where the sheets of pictures lie.
        prompts: only these, where given: to compare files that hold different ones.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        header: Header,
        folder: Path | None = None,
        prompts: frozenset[str] | None = None,
    ) -> None:
        self.header, self.folder, self.prompts = header, folder, prompts
        self._columns = columns
        self._pooled: dict[tuple, Estimate | None] = {}
        self._references: dict[tuple, np.ndarray] = {}
        places: dict[tuple, list[int]] = {}
        keys = zip(
            *(columns[name].tolist() for name in ("part", "item", "setting", "method", "principle")), strict=True
        )
        for i, key in enumerate(keys):
            places.setdefault(key, []).append(i)
        self._places = {
            key: np.array(rows)[np.argsort(columns["seed"][rows], kind="stable")] for key, rows in places.items()
        }

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Raises as `read_results`."""
        path = Path(path)
        return cls(*read_results(path), path if path.is_dir() else path.parent)

    def only(self, other: Results, parts: Sequence[str] = ("bias", "toxicity")) -> Results:
        """The same images, of the prompts that these parts of another file hold.

        Raises:
            InputError: there are none.
        """
        theirs, ours = ({item.prompt for part in parts for item in r.items(part)} for r in (other, self))
        if not theirs & ours:
            raise InputError(
                "two results files have no prompt in common: make both by the same version of `python -m livo evaluate`"
            )
        return Results(self._columns, self.header, self.folder, frozenset(theirs))

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def methods(self) -> list[str]:
        """Ids in the order of the run."""
        return [id for id in self.header.methods if any(key[3] == id for key in self._places)]

    def title(self, method: str) -> str:
        return self.header.methods[method].title

    def has(self, part: str) -> bool:
        return part in self.header.parts

    def items(self, part: str) -> tuple[EvaluationItem, ...]:
        """The part's prompts; none where it was not run."""
        return self.header.parts[part].items if self.has(part) else ()

    def retrieved(self, part: str) -> tuple[str, ...]:
        """By prompt of the part, the principle that the retriever gave; empty for none."""
        return self.header.parts[part].retrieved if self.has(part) else ()

    def image_count(self) -> int:
        """All images of the file."""
        return len(self._columns["seed"])

    def size(self, part: str) -> tuple[int, int]:
        """Prompts and images a prompt."""
        known = [item for item in self.items(part) if item.prompt in (self.prompts or {item.prompt})]
        return len(known), self.header.parts[part].images

    def places(self, part: str, principle: str) -> list[int]:
        """Which of the part's prompts a principle applies to."""
        known = enumerate(self.items(part))
        return [
            i for i, item in known if principle in item.principles and item.prompt in (self.prompts or {item.prompt})
        ]

    def classes(self, question: str) -> list[str]:
        return list(self.header.classes[question])

    def images(self, part: str, item: int, method: str, principle: str, select: Select = EVERY) -> Images:
        """A method's images of a prompt, by quota where it mixes.

        Raises:
            KeyError: there are none.
        """
        on = self._place(part, item, method, "" if method == SD else principle, select)
        known = self.header.principles.get(principle)
        mixes = self.header.methods[method].mixes and known is not None and known.risk == "bias"
        if mixes and select.rate < 1:
            from livo.methods.livo import take_value

            off = self._place(part, item, SD, "", select)
            taken = np.array(take_value(self._columns["seed"][on].tolist(), select.rate))
            on = np.where(taken, on, off)
        return Images(self._columns, on)

    def _place(self, part: str, item: int, method: str, principle: str, select: Select) -> np.ndarray:
        return self._places[part, item, select.setting, method, principle][: select.seeds]

    def ran(self, part: str, method: str, principle: str) -> bool:
        """Whether a method has images under a principle."""
        if method == SD:
            return bool(self.places(part, principle))
        return any((part, i, 0, method, principle) in self._places for i in self.places(part, principle))

    def each(self, part: str, method: str, principle: str, select: Select = EVERY) -> Iterator[Images]:
        """A method's images of every prompt that the principle applies to."""
        for i in self.places(part, principle):
            yield self.images(part, i, method, principle, select)

    # --- bias ------------------------------------------------------------------------------------------------------

    def counts(self, images: Images, question: str) -> list[int]:
        """Images per class; those that the judge would not place are left out."""
        return [int((images[question] == k).sum()) for k in range(len(self.header.classes[question]))]

    def discrepancy(
        self, part: str, method: str, principle: str, metric: str = "D1", select: Select = EVERY
    ) -> list[float]:
        """D1, D2, "D2u" (unbiased, squared) or "corrected" (D1 for the judge's own errors), one a prompt.

        Raises:
            KeyError: "corrected" where the judge's errors were never measured; `judge_is_measured` says so.
        """
        question = ATTRIBUTE[principle]
        functions = {"D1": discrepancy_range, "D2": discrepancy_l2, "D2u": unbiased_discrepancy_l2_squared}
        out = []
        for images in self.each(part, method, principle, select):
            counts = self.counts(images, question)
            if metric == "corrected":
                matrix = np.array(self.header.confusion[question].matrix)[:, :-1]
                shares = corrected_shares(counts, matrix)
                out.append(max(shares) - min(shares))
            else:
                out.append(functions[metric](counts))
        return out

    def judge_is_measured(self, principle: str) -> bool:
        """Whether the judge's errors about the principle's attribute are known."""
        return ATTRIBUTE[principle] in self.header.confusion

    def floor(self, part: str, principle: str, select: Select = EVERY) -> Floor:
        """A fair sampler's D1 and D2 with as many images."""
        n = self.header.parts[part].images
        return discrepancy_floor(min(n, select.seeds or n), len(self.header.classes[ATTRIBUTE[principle]]))

    def abstained(self, part: str, method: str, principle: str, select: Select = EVERY) -> tuple[int, int]:
        """Images of which the judge could not tell the attribute, and all images."""
        told = [images[ATTRIBUTE[principle]] for images in self.each(part, method, principle, select)]
        return int(sum((t == -1).sum() for t in told)), int(sum(map(len, told)))

    # --- toxicity --------------------------------------------------------------------------------------------------

    def toxicity(
        self, part: str, method: str, principle: str, metric: str = "R", select: Select = EVERY
    ) -> list[float]:
        """Avg. R, Avg. S, Max or Prob. of every prompt."""
        functions = {
            "R": toxicity_ratio,
            "S": toxicity_score,
            "Max": expected_max_toxicity,
            "Prob": toxicity_probability,
        }
        out = []
        for images in self.each(part, method, principle, select):
            scores = images["score"]
            out.append(functions[metric](scores if metric in "RS" else scores[: len(scores) // 5 * 5]))
        return out

    # --- quality ---------------------------------------------------------------------------------------------------

    def kept(self, part: str, method: str, principle: str, select: Select = EVERY) -> list[float]:
        """Semantic consistency of every prompt: the share of images that show all that was asked for."""
        out = []
        for i in self.places(part, principle):
            images = self.images(part, i, method, principle, select)
            wants = self.items(part)[i].wants
            asked = [[self.header.classes[q].index(name) for q, name in wants]] * len(images)
            out.append(semantic_consistency(asked, np.stack([images[q] for q, _ in wants], axis=1)))
        return out

    def clip(self, part: str, method: str, principle: str, select: Select = EVERY) -> list[float]:
        """CLIP score of every prompt."""
        return [clip_score(images["similarity"]) for images in self.each(part, method, principle, select)]

    def change(self, part: str, method: str, principle: str, select: Select = EVERY) -> list[float]:
        """Mean difference to Stable Diffusion's image of the same seed, of every prompt."""
        return [float(images["change"].mean()) for images in self.each(part, method, principle, select)]

    def pooled(
        self, part: str, method: str, principles: Sequence[str], metric: str, select: Select = EVERY
    ) -> Estimate | None:
        """IS, FID or KID of all prompts' images together; FID and KID against `reference`'s, of other seeds.

        Args:
            metric: "IS", "FID" or "KID"; or "clean FID", against the clean counterparts of toxic prompts. KID comes
                without an interval of its own: it is its own bounds.

        Returns:
            None where the file keeps no features or no reference.
        """
        key = (part, method, tuple(principles), metric, select)
        if key not in self._pooled:
            self._pooled[key] = self._pool(*key)
        return self._pooled[key]

    def _pool(
        self, part: str, method: str, principles: tuple[str, ...], metric: str, select: Select
    ) -> Estimate | None:
        sets = [images for p in principles for images in self.each(part, method, p, select)]
        if not sets or np.isnan(sets[0]["features"]).any():
            return None
        if metric == "IS":
            return bootstrap_of_prompts(
                inception_of_prompts([distributions(images["classes"]) for images in sets]), len(sets)
            )
        if metric == "KID" and self.has(REFERENCE):
            value = kid(
                np.concatenate([images["features"] for images in sets]),
                self._reference(part, principles, select.seeds, "prompt"),
            )
            return Estimate(value, value, value)
        frechet = self.frechet_of(part, method, principles, metric, select)
        if frechet is None:
            return None
        found = bootstrap_of_prompts(*frechet)
        return replace(found, low=max(0.0, found.low))

    def frechet_of(
        self, part: str, method: str, principles: Sequence[str], metric: str = "FID", select: Select = EVERY
    ) -> tuple[Callable[[np.ndarray], float], int] | None:
        """FID, or "clean FID", by how often each prompt counts, and how many there are; None without features."""
        features = [images["features"] for p in principles for images in self.each(part, method, p, select)]
        if not features or not self.has(REFERENCE) or np.isnan(features[0]).any():
            return None
        which = "clean" if metric == "clean FID" else "prompt"
        return frechet_of_prompts(features, self._reference(part, tuple(principles), select.seeds, which)), len(
            features
        )

    def _reference(self, part: str, principles: tuple[str, ...], seeds: int | None, which: str) -> np.ndarray:
        """(M, F) features of Stable Diffusion's images of other seeds, of the prompts of these principles."""
        key = (part, principles, seeds, which)
        if key in self._references:
            return self._references[key]
        wanted = {getattr(self.items(part)[i], which) for p in principles for i in self.places(part, p)}
        places = [i for i, item in enumerate(self.items(REFERENCE)) if item.prompt in wanted]
        found = [self.images(REFERENCE, i, SD, "", Select(seeds=seeds))["features"] for i in places]
        if not found:
            raise InputError("the results hold no reference images of these prompts: run the part 'reference' as well")
        self._references[key] = np.concatenate(found)
        return self._references[key]


def read_all(paths: Sequence[str | Path]) -> list[Results]:
    """Results files; a folder without one of its own stands for those of its subfolders.

    Raises:
        InputError: one is missing or broken, or there is none.
    """
    found: list[Results] = []
    for path in map(Path, paths):
        if path.is_dir() and not (path / RESULTS).exists():
            inner = sorted(path.glob(f"*/{RESULTS}"))
            if not inner:
                raise InputError(
                    f"there are no results under {path}: `python -m livo evaluate --out {path}/main` makes them"
                )
            found += [Results.read(p.parent) for p in inner]
        else:
            found.append(Results.read(path))
    return found


def mean(values: Sequence[float]) -> Estimate:
    """A figure of prompts with its interval."""
    return bootstrap_mean(values)


def principles_of(risk: str, results: Results) -> list[str]:
    """Ids of a risk that the results hold, in the order of `principles.yaml`."""
    known = [id for id, p in results.header.principles.items() if p.risk == risk]
    return [id for id in known if results.places("bias" if risk == "bias" else "toxicity", id)]


def distributions(classes: np.ndarray) -> np.ndarray:
    """(N, K) as stored -> rows that sum to 1."""
    return classes / classes.sum(axis=1, keepdims=True)
