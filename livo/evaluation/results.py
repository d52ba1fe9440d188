"""A results file as figures ask for it: the images of an arm, put together by quota, and their figures with intervals.

Every figure is a mean over prompts of what `livo.measures.metrics` makes of one prompt's images, or a figure of pooled
images from `livo.measures.quality`; intervals are bootstrapped over prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from livo.evaluation.parts import SD
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
from livo.measures.quality import Moments, clip_score, frechet_to, kid, moments, semantic_consistency
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
    """Which images of an arm.

    Attributes:
        rate: share that takes the value against bias, where the arm mixes; 1 is the value on, 0 Stable Diffusion.
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
        header: Mapping[str, Any],
        folder: Path | None = None,
        prompts: frozenset[str] | None = None,
    ) -> None:
        self.header, self.folder, self.prompts = header, folder, prompts
        self._columns = columns
        self._pooled: dict[tuple, Estimate | None] = {}
        self._references: dict[tuple, np.ndarray] = {}
        places: dict[tuple, list[int]] = {}
        keys = zip(*(columns[name].tolist() for name in ("part", "item", "setting", "arm", "principle")), strict=True)
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
        theirs, ours = ({item["prompt"] for part in parts for item in r.items(part)} for r in (other, self))
        if not theirs & ours:
            raise InputError(
                "two results files have no prompt in common: make both by the same version of `python -m livo evaluate`"
            )
        return Results(self._columns, self.header, self.folder, frozenset(theirs))

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def arms(self) -> list[str]:
        """Ids in the order of the run."""
        return [id for id in self.header["arms"] if any(key[3] == id for key in self._places)]

    def title(self, arm: str) -> str:
        return self.header["arms"][arm]["title"]

    def has(self, part: str) -> bool:
        return part in self.header["parts"]

    def items(self, part: str) -> list[dict[str, Any]]:
        """The part's prompts as the header has them; none where it was not run."""
        return self.header["parts"][part]["items"] if self.has(part) else []

    def image_count(self) -> int:
        """All images of the file."""
        return len(self._columns["seed"])

    def size(self, part: str) -> tuple[int, int]:
        """Prompts and images a prompt."""
        known = [item for item in self.items(part) if item["prompt"] in (self.prompts or {item["prompt"]})]
        return len(known), self.header["parts"][part]["seeds"][1]

    def places(self, part: str, principle: str) -> list[int]:
        """Which of the part's prompts a principle applies to."""
        known = enumerate(self.items(part))
        return [
            i
            for i, item in known
            if principle in item["principles"] and item["prompt"] in (self.prompts or {item["prompt"]})
        ]

    def classes(self, question: str) -> list[str]:
        return list(self.header["classes"][question])

    def images(self, part: str, item: int, arm: str, principle: str, select: Select = EVERY) -> Images:
        """An arm's images of a prompt, by quota where it mixes.

        Raises:
            KeyError: there are none.
        """
        on = self._place(part, item, arm, "" if arm == SD else principle, select)
        info = self.header["arms"][arm]
        if info["mixes"] and self.header["principles"].get(principle, {}).get("risk") == "bias" and select.rate < 1:
            from livo.methods.livo import take_value

            off = self._place(part, item, SD, "", select)
            taken = np.array(take_value(self._columns["seed"][on].tolist(), select.rate))
            on = np.where(taken, on, off)
        return Images(self._columns, on)

    def _place(self, part: str, item: int, arm: str, principle: str, select: Select) -> np.ndarray:
        return self._places[part, item, select.setting, arm, principle][: select.seeds]

    def ran(self, part: str, arm: str, principle: str) -> bool:
        """Whether an arm has images under a principle."""
        if arm == SD:
            return bool(self.places(part, principle))
        return any((part, i, 0, arm, principle) in self._places for i in self.places(part, principle))

    def each(self, part: str, arm: str, principle: str, select: Select = EVERY) -> Iterator[Images]:
        """An arm's images of every prompt that the principle applies to."""
        for i in self.places(part, principle):
            yield self.images(part, i, arm, principle, select)

    # --- bias ------------------------------------------------------------------------------------------------------

    def counts(self, images: Images, question: str) -> list[int]:
        """Images per class; those that the judge would not place are left out."""
        return [int((images[question] == k).sum()) for k in range(len(self.header["classes"][question]))]

    def discrepancy(
        self, part: str, arm: str, principle: str, metric: str = "D1", select: Select = EVERY
    ) -> list[float]:
        """D1, D2, "D2u" (unbiased, squared) or "corrected" (D1 for the judge's own errors), one a prompt.

        Raises:
            KeyError: "corrected" where the judge's errors were never measured; `judge_is_measured` says so.
        """
        question = ATTRIBUTE[principle]
        functions = {"D1": discrepancy_range, "D2": discrepancy_l2, "D2u": unbiased_discrepancy_l2_squared}
        out = []
        for images in self.each(part, arm, principle, select):
            counts = self.counts(images, question)
            if metric == "corrected":
                matrix = np.array(self.header["confusion"][question]["matrix"])[:, :-1]
                shares = corrected_shares(counts, matrix)
                out.append(max(shares) - min(shares))
            else:
                out.append(functions[metric](counts))
        return out

    def judge_is_measured(self, principle: str) -> bool:
        """Whether the judge's errors about the principle's attribute are known."""
        return ATTRIBUTE[principle] in self.header["confusion"]

    def floor(self, part: str, principle: str, select: Select = EVERY) -> Floor:
        """A fair sampler's D1 and D2 with as many images."""
        n = self.header["parts"][part]["seeds"][1]
        return discrepancy_floor(min(n, select.seeds or n), len(self.header["classes"][ATTRIBUTE[principle]]))

    def abstained(self, part: str, arm: str, principle: str, select: Select = EVERY) -> tuple[int, int]:
        """Images of which the judge could not tell the attribute, and all images."""
        told = [images[ATTRIBUTE[principle]] for images in self.each(part, arm, principle, select)]
        return int(sum((t == -1).sum() for t in told)), int(sum(map(len, told)))

    # --- toxicity --------------------------------------------------------------------------------------------------

    def toxicity(self, part: str, arm: str, principle: str, metric: str = "R", select: Select = EVERY) -> list[float]:
        """Avg. R, Avg. S, Max or Prob. of every prompt."""
        functions = {
            "R": toxicity_ratio,
            "S": toxicity_score,
            "Max": expected_max_toxicity,
            "Prob": toxicity_probability,
        }
        out = []
        for images in self.each(part, arm, principle, select):
            scores = images["score"]
            out.append(functions[metric](scores if metric in "RS" else scores[: len(scores) // 5 * 5]))
        return out

    # --- quality ---------------------------------------------------------------------------------------------------

    def kept(self, part: str, arm: str, principle: str, select: Select = EVERY) -> list[float]:
        """Semantic consistency of every prompt: the share of images that show all that was asked for."""
        out = []
        for i in self.places(part, principle):
            images = self.images(part, i, arm, principle, select)
            wants = self.items(part)[i]["wants"]
            asked = [[self.header["classes"][q].index(name) for q, name in wants]] * len(images)
            out.append(semantic_consistency(asked, np.stack([images[q] for q, _ in wants], axis=1)))
        return out

    def clip(self, part: str, arm: str, principle: str, select: Select = EVERY) -> list[float]:
        """CLIP score of every prompt."""
        return [clip_score(images["similarity"]) for images in self.each(part, arm, principle, select)]

    def change(self, part: str, arm: str, principle: str, select: Select = EVERY) -> list[float]:
        """Mean difference to Stable Diffusion's image of the same seed, of every prompt."""
        return [float(images["change"].mean()) for images in self.each(part, arm, principle, select)]

    def pooled(
        self, part: str, arm: str, principles: Sequence[str], metric: str, select: Select = EVERY
    ) -> Estimate | None:
        """IS, FID or KID of all prompts' images together; FID and KID against `reference`'s, of other seeds.

        Args:
            metric: "IS", "FID" or "KID"; or "clean FID", against the clean counterparts of toxic prompts. KID comes
                without an interval of its own: it is its own bounds.

        Returns:
            None where the file keeps no features or no reference.
        """
        key = (part, arm, tuple(principles), metric, select)
        if key not in self._pooled:
            self._pooled[key] = self._pool(*key)
        return self._pooled[key]

    def _pool(self, part: str, arm: str, principles: tuple[str, ...], metric: str, select: Select) -> Estimate | None:
        sets = [images for p in principles for images in self.each(part, arm, p, select)]
        if not sets or np.isnan(sets[0]["features"]).any():
            return None
        if metric == "IS":
            return bootstrap_of_prompts(_inception([distributions(images["classes"]) for images in sets]), len(sets))
        if metric == "KID" and self.has(REFERENCE):
            value = kid(
                np.concatenate([images["features"] for images in sets]),
                self._reference(part, principles, select.seeds, "prompt"),
            )
            return Estimate(value, value, value)
        frechet = self.frechet_of(part, arm, principles, metric, select)
        if frechet is None:
            return None
        found = bootstrap_of_prompts(*frechet)
        return replace(found, low=max(0.0, found.low))

    def frechet_of(
        self, part: str, arm: str, principles: Sequence[str], metric: str = "FID", select: Select = EVERY
    ) -> tuple[Callable[[np.ndarray], float], int] | None:
        """FID, or "clean FID", by how often each prompt counts, and how many prompts; None without features."""
        features = [images["features"] for p in principles for images in self.each(part, arm, p, select)]
        if not features or not self.has(REFERENCE) or np.isnan(features[0]).any():
            return None
        which = "clean" if metric == "clean FID" else "prompt"
        return _frechet(features, self._reference(part, tuple(principles), select.seeds, which)), len(features)

    def _reference(self, part: str, principles: tuple[str, ...], seeds: int | None, which: str) -> np.ndarray:
        """(M, F) features of Stable Diffusion's images, of other seeds, of the prompts that principles apply to."""
        key = (part, principles, seeds, which)
        if key in self._references:
            return self._references[key]
        wanted = {self.items(part)[i][which] for p in principles for i in self.places(part, p)}
        places = [i for i, item in enumerate(self.items(REFERENCE)) if item["prompt"] in wanted]
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
    known = [id for id, p in results.header["principles"].items() if p["risk"] == risk]
    return [id for id in known if results.places("bias" if risk == "bias" else "toxicity", id)]


def distributions(classes: np.ndarray) -> np.ndarray:
    """(N, K) as stored -> rows that sum to 1."""
    return classes / classes.sum(axis=1, keepdims=True)


def _inception(probs: Sequence[np.ndarray]) -> Callable[[np.ndarray], float]:
    """IS of prompts' images, by how often each prompt counts: `quality.inception_score` from sums over prompts.

    mean_i KL(p_i || p) = mean_i sum_y p_iy log p_iy - sum_y p_y log p_y
    """
    n = np.array([len(p) for p in probs])
    sums = np.stack([p.sum(axis=0) for p in probs])
    terms = np.array([_plogp(p).sum() for p in probs])

    def score(times: np.ndarray) -> float:
        images = times @ n
        return float(np.exp(times @ terms / images - _plogp(times @ sums / images).sum()))

    return score


def _plogp(p: np.ndarray) -> np.ndarray:
    return p * np.log(np.where(p > 0, p, 1.0))


def _frechet(features: Sequence[np.ndarray], reference: np.ndarray) -> Callable[[np.ndarray], float]:
    """FID of prompts' images against the reference, by how often each prompt counts: `quality.fid` from sums."""
    to_reference = frechet_to(moments(reference))
    wide = [x.astype(np.float64) for x in features]
    n = np.array([len(x) for x in wide])
    first = np.stack([x.sum(axis=0) for x in wide])
    second = np.stack([x.T @ x for x in wide])

    def distance(times: np.ndarray) -> float:
        images = times @ n
        centre = times @ first / images
        products = np.tensordot(times, second, axes=1)
        return to_reference(Moments(centre, (products - images * np.outer(centre, centre)) / (images - 1)))

    return distance
