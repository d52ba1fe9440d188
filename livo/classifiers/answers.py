"""What judges say of N images as plain data: answers, figures, and two judges side by side. No torch, no page.

Classification -> Answer, BiasFigures, ToxicityFigures, TwoJudges -> to_json() at the edge; from_json() reads it back
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livo.measures.metrics import Floor, Interval

CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class ImageAnswer:
    """One judge's answer to one question about one image.

    Attributes:
        label: None where the judge cannot tell.
        probability: of the likeliest class, in [0, 1].
        score: of question "toxicity": the probability that the image is not clean; None of any other.
        toxic: whether that score flags the image.
    """

    label: str | None
    probability: float
    score: float | None = None
    toxic: bool = False

    def to_json(self) -> dict[str, Any]:
        """Rounded to four digits; "score" and "toxic" of question "toxicity" alone."""
        out: dict[str, Any] = {"label": self.label, "probability": round(self.probability, 4)}
        return out if self.score is None else out | {"score": round(self.score, 4), "toxic": self.toxic}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ImageAnswer:
        return cls(given["label"], given["probability"], given.get("score"), bool(given.get("toxic")))


@dataclass(frozen=True)
class JudgeAnswer:
    """One judge's answer to one question about N images."""

    classes: tuple[str, ...]
    images: tuple[ImageAnswer, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Images per class, abstentions left out; K integers."""
        return tuple(sum(image.label == name for image in self.images) for name in self.classes)

    @property
    def abstained(self) -> int:
        """Images that the judge would not place."""
        return sum(image.label is None for image in self.images)

    def to_json(self) -> dict[str, Any]:
        return {
            "classes": list(self.classes),
            "counts": list(self.counts),
            "abstained": self.abstained,
            "images": [image.to_json() for image in self.images],
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> JudgeAnswer:
        return cls(tuple(given["classes"]), tuple(map(ImageAnswer.from_json, given["images"])))


@dataclass(frozen=True)
class CorrectedBias:
    """Shares and D1 without the judge's own errors, which were measured on `judge_n` images."""

    shares: Mapping[str, float]
    discrepancy_range: float
    judge_accuracy: float
    judge_n: int


@dataclass(frozen=True)
class BiasFigures:
    """How evenly n images are spread over the classes of an attribute; ratios in [0, 1].

    Attributes:
        n: images that the judge placed, >= 1.
        floor: what a perfectly fair sampler of n images scores on average.
        intervals: Wilson's 95 % interval of each class's share.
        corrected: None where the judge's errors were never measured.
    """

    n: int
    discrepancy_range: float
    discrepancy_l2: float
    floor: Floor
    intervals: Mapping[str, Interval]
    corrected: CorrectedBias | None

    def to_json(self) -> dict[str, Any]:
        known = self.corrected
        return {
            "n": self.n,
            "discrepancy_range": self.discrepancy_range,
            "discrepancy_l2": self.discrepancy_l2,
            "floor": self.floor._asdict(),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "corrected": known
            and {
                "shares": dict(known.shares),
                "discrepancy_range": known.discrepancy_range,
                "judge_accuracy": known.judge_accuracy,
                "judge_n": known.judge_n,
            },
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> BiasFigures:
        intervals = {name: Interval(*pair) for name, pair in given["intervals"].items()}
        corrected = CorrectedBias(**given["corrected"]) if given["corrected"] else None
        ranges = given["discrepancy_range"], given["discrepancy_l2"]
        return cls(given["n"], *ranges, Floor(**given["floor"]), intervals, corrected)


@dataclass(frozen=True)
class CorrectedToxicity:
    """The share flagged without the judge's own errors, which were measured on `judge_n` images."""

    toxicity_ratio: float
    judge_accuracy: float
    judge_n: int


@dataclass(frozen=True)
class ToxicityFigures:
    """How many of n images are flagged, with Wilson's 95 % interval, and the mean score; ratios in [0, 1].

    Attributes:
        corrected: None where the judge's errors were never measured.
    """

    n: int
    toxicity_ratio: float
    toxicity_score: float
    interval: Interval
    corrected: CorrectedToxicity | None

    @property
    def flagged(self) -> int:
        """Images whose score flags them."""
        return round(self.toxicity_ratio * self.n)

    def to_json(self) -> dict[str, Any]:
        known = self.corrected
        return {
            "n": self.n,
            "toxicity_ratio": self.toxicity_ratio,
            "toxicity_score": self.toxicity_score,
            "interval": list(self.interval),
            "corrected": known
            and {
                "toxicity_ratio": known.toxicity_ratio,
                "judge_accuracy": known.judge_accuracy,
                "judge_n": known.judge_n,
            },
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ToxicityFigures:
        corrected = CorrectedToxicity(**given["corrected"]) if given["corrected"] else None
        scores = given["toxicity_ratio"], given["toxicity_score"]
        return cls(given["n"], *scores, Interval(*given["interval"]), corrected)


Figures = BiasFigures | ToxicityFigures


def figures_from_json(given: Mapping[str, Any]) -> Figures:
    """Which kind it is shows in its keys."""
    return (ToxicityFigures if "toxicity_ratio" in given else BiasFigures).from_json(given)


@dataclass(frozen=True)
class TwoJudges:
    """A second judge's answer to a question beside the first's, and how far both agree.

    Attributes:
        first, second: names of the judges.
        second_counts: images by what the second says.
        alike: share of the n images labelled alike, with its 95 % interval.
        kappa: agreement beyond chance, with its interval; both None where it tells nothing.
        second_labels: what the second says of each image; empty where it was stored without.
        second_accuracy: its own on `second_n` images whose labels are known; None where it was never measured.
    """

    first: str
    second: str
    second_counts: Mapping[str, int]
    n: int
    alike: float
    alike_interval: Interval
    kappa: float | None
    kappa_interval: Interval | None
    second_labels: tuple[str, ...] = ()
    second_accuracy: float | None = None
    second_n: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "second_counts": dict(self.second_counts),
            "n": self.n,
            "alike": self.alike,
            "alike_interval": list(self.alike_interval),
            "kappa": self.kappa,
            "kappa_interval": self.kappa_interval and list(self.kappa_interval),
            "second_labels": list(self.second_labels),
            "second_accuracy": self.second_accuracy,
            "second_n": self.second_n,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> TwoJudges:
        kappa = given["kappa_interval"] and Interval(*given["kappa_interval"])
        labels = tuple(given.get("second_labels", ()))
        intervals = {"alike_interval": Interval(*given["alike_interval"]), "kappa_interval": kappa}
        return cls(**{**given, **intervals, "second_labels": labels})
