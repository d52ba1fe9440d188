"""A results file as figures ask for it: a method's images, put together by quota, and their figures with intervals.

Every figure is a mean over prompts of what `livo.measures.metrics` makes of one prompt's images, or a figure of pooled
images from `livo.measures.quality`; intervals are bootstrapped over prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from livo.evaluation.header import Header
from livo.evaluation.parts import SD, EvaluationItem
from livo.evaluation.store import QUESTIONS, RESULTS, read_results
from livo.measures.bootstrap import bootstrap_mean, bootstrap_of_sets, corrected_shares, paired_bootstrap
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
Chosen = tuple[int, str, str]
"""A set of images: the place of its prompt in the part, whose images, and under which principle."""
Statistic = tuple[Callable[[np.ndarray], np.ndarray], list[str]]
"""A figure by how often each set of images counts, (B, N) -> (B,), and the cluster of each set."""


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


class Figures(list[float]):
    """A figure for each set of images, with the subject of the set's prompt: what is drawn again together."""

    def __init__(self, values: Iterable[float], clusters: Iterable[str]) -> None:
        super().__init__(values)
        self.clusters = list(clusters)


def joined(parts: Iterable[Figures]) -> Figures:
    """The sets of several principles or parts together."""
    every = list(parts)
    return Figures((x for part in every for x in part), (c for part in every for c in part.clusters))


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
        self._references: dict[tuple, dict[str, np.ndarray]] = {}
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

    def image_count(self, part: str = "") -> int:
        """All images of a part, or of the file."""
        return sum(len(rows) for key, rows in self._places.items() if part in ("", key[0]))

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

    def subjects(self, part: str, principle: str) -> list[str]:
        """Of the prompts at `places`: what is drawn again together."""
        return [self.items(part)[i].subject for i in self.places(part, principle)]

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
    ) -> Figures:
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
        return Figures(out, self.subjects(part, principle))

    def judge_is_measured(self, principle: str) -> bool:
        """Whether the judge's errors about the principle's attribute are known."""
        return ATTRIBUTE[principle] in self.header.confusion

    def floor(self, part: str, principle: str, select: Select = EVERY) -> Floor:
        """A fair sampler's D1 and D2 with as many images."""
        n = self.header.parts[part].images
        return discrepancy_floor(min(n, select.seeds or n), len(self.header.classes[ATTRIBUTE[principle]]))

    def abstained(self, part: str, method: str, principle: str, select: Select = EVERY) -> tuple[int, int]:
        """Images of which the judge could not tell the attribute, and all images."""
        labels = [images[ATTRIBUTE[principle]] for images in self.each(part, method, principle, select)]
        return int(sum((t == -1).sum() for t in labels)), int(sum(map(len, labels)))

    # --- toxicity --------------------------------------------------------------------------------------------------

    def toxicity(self, part: str, method: str, principle: str, metric: str = "R", select: Select = EVERY) -> Figures:
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
        return Figures(out, self.subjects(part, principle))

    # --- quality ---------------------------------------------------------------------------------------------------

    def sets(self, part: str, method: str, principles: Sequence[str]) -> list[Chosen]:
        """A method's sets of images of every prompt under each principle."""
        return [(i, method, p) for p in principles for i in self.places(part, p)]

    def kept(self, part: str, method: str, principle: str, select: Select = EVERY) -> Figures:
        """`kept_of` a method under a principle."""
        return self.kept_of(part, self.sets(part, method, [principle]), select)

    def kept_of(self, part: str, chosen: Sequence[Chosen], select: Select = EVERY) -> Figures:
        """Semantic consistency of every set: the share of images that show all that was asked for."""
        out = []
        for i, method, principle in chosen:
            images = self.images(part, i, method, principle, select)
            wants = self.items(part)[i].wants
            asked = [[self.header.classes[q].index(name) for q, name in wants]] * len(images)
            out.append(semantic_consistency(asked, np.stack([images[q] for q, _ in wants], axis=1)))
        return Figures(out, self.subjects_of(part, chosen))

    def clip(self, part: str, method: str, principle: str, select: Select = EVERY) -> Figures:
        """`clip_of` a method under a principle."""
        return self.clip_of(part, self.sets(part, method, [principle]), select)

    def clip_of(self, part: str, chosen: Sequence[Chosen], select: Select = EVERY) -> Figures:
        """CLIP score of every set."""
        scores = (clip_score(self.images(part, *one, select)["similarity"]) for one in chosen)
        return Figures(scores, self.subjects_of(part, chosen))

    def subjects_of(self, part: str, chosen: Sequence[Chosen]) -> list[str]:
        """What is drawn again together, of every set."""
        return [self.items(part)[i].subject for i, _, _ in chosen]

    def change(self, part: str, method: str, principle: str, select: Select = EVERY) -> Figures:
        """Mean difference to Stable Diffusion's image of the same seed, of every prompt."""
        changes = (float(images["change"].mean()) for images in self.each(part, method, principle, select))
        return Figures(changes, self.subjects(part, principle))

    def pooled(
        self, part: str, method: str, principles: Sequence[str], metric: str, select: Select = EVERY
    ) -> Estimate | None:
        """IS, FID or KID of all prompts' images together; FID and KID against `reference`'s, of other seeds.

        Args:
            metric: "IS", "FID" or "KID"; or "clean FID", against the clean counterparts of toxic prompts. KID comes
                without an interval.

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
        if metric == "KID":
            chosen = self.sets(part, method, principles)
            sets = [self.images(part, *one, select)["features"] for one in chosen]
            if not sets or np.isnan(sets[0]).any() or not self.has(REFERENCE):
                return None
            reference = self._reference([self.items(part)[i].prompt for i, _, _ in chosen], select.seeds)
            return Estimate(kid(np.concatenate(sets), np.concatenate(list(reference.values()))))
        statistic = self.statistic(part, method, principles, metric, select)
        if statistic is None:
            return None
        found = bootstrap_of_sets(*statistic)
        return replace(found, low=max(1.0 if metric == "IS" else 0.0, found.low))

    def statistic(
        self, part: str, method: str, principles: Sequence[str], metric: str = "FID", select: Select = EVERY
    ) -> Statistic | None:
        """`statistic_of` a method under several principles."""
        return self.statistic_of(part, self.sets(part, method, principles), metric, select)

    def statistic_of(
        self, part: str, chosen: Sequence[Chosen], metric: str = "FID", select: Select = EVERY
    ) -> Statistic | None:
        """IS, FID or "clean FID" by how often each set counts, and the sets' subjects; None without features."""
        sets = [self.images(part, *one, select) for one in chosen]
        if not sets or np.isnan(sets[0]["features"]).any():
            return None
        subjects = self.subjects_of(part, chosen)
        if metric == "IS":
            return inception_of_prompts([distributions(images["classes"]) for images in sets]), subjects
        if not self.has(REFERENCE):
            return None
        which = "clean" if metric == "clean FID" else "prompt"
        prompts = [getattr(self.items(part)[i], which) for i, _, _ in chosen]
        reference = self._reference(prompts, select.seeds)
        places = [prompts.index(prompt) for prompt in reference]
        return frechet_of_prompts([images["features"] for images in sets], list(reference.values()), places), subjects

    def _reference(self, prompts: Sequence[str], seeds: int | None) -> dict[str, np.ndarray]:
        """(M, F) features of Stable Diffusion's images of other seeds, by prompt."""
        wanted = frozenset(prompts)
        key = (wanted, seeds)
        if key not in self._references:
            self._references[key] = {
                item.prompt: self.images(REFERENCE, i, SD, "", Select(seeds=seeds))["features"]
                for i, item in enumerate(self.items(REFERENCE))
                if item.prompt in wanted
            }
        if not self._references[key]:
            raise InputError("the results hold no reference images of these prompts: run the part 'reference' as well")
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


def mean(values: Figures, within: tuple[float, float] = (0, 1)) -> Estimate:
    """A figure of prompts with its interval over subjects."""
    return bootstrap_mean(values, values.clusters, within)


def difference(one: Figures, other: Figures) -> Estimate:
    """How much higher the first is, with its interval over subjects, which are drawn for both alike."""
    return paired_bootstrap(one, other, one.clusters, (-1, 1))


def statistic_of(values: Figures) -> Statistic:
    """The mean by how often each set of images counts."""
    x = np.array(values)
    return lambda times: times @ x / times.sum(axis=1), values.clusters


def principles_of(risk: str, results: Results) -> list[str]:
    """Ids of a risk that the results hold, in the order of `principles.yaml`."""
    known = [id for id, p in results.header.principles.items() if p.risk == risk]
    return [id for id in known if results.places("bias" if risk == "bias" else "toxicity", id)]


def distributions(classes: np.ndarray) -> np.ndarray:
    """(N, K) as stored -> rows that sum to 1."""
    return classes / classes.sum(axis=1, keepdims=True)
