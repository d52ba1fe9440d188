"""A comparison as plain data: what the page shows, the shell prints and files keep. The pictures lie apart.

Comparison -> ComparisonRecord -> to_json(paths) at the edge; from_json() reads a stored one back
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from livo.classifiers.answers import Figures, JudgeAnswer, TwoJudges, figures_from_json
from livo.principles import find_principle
from livo.types import Artefact, Evidence, Plan, Principle, SamplingOptions


@dataclass(frozen=True)
class Cost:
    """What a method's images took.

    Attributes:
        rows: U-Net rows for one image at one solver step, had the method run alone; 2 for Stable Diffusion.
        tflop: 10^12 operations of the U-Net for one image.
        artefact: what the method adds to the backbone; None where it adds nothing.
        joint: the denoiser is a transformer that works on the text at every step, so it is not projected once a run.
    """

    rows: float
    tflop: float
    artefact: Artefact | None
    joint: bool = False

    def to_json(self) -> dict[str, Any]:
        """Flat, with bytes and training only where there is an artefact."""
        out: dict[str, Any] = {"rows": round(self.rows, 2), "tflop": float(f"{self.tflop:.4g}")}
        out |= {"joint": True} if self.joint else {}
        return out | ({"bytes": self.artefact.bytes, "training": dict(self.artefact.training)} if self.artefact else {})

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Cost:
        artefact = Artefact(given["bytes"], given["training"]) if "bytes" in given else None
        return cls(given["rows"], given["tflop"], artefact, given.get("joint", False))


@dataclass(frozen=True)
class MethodRecord:
    """What one method made of a prompt, and what the judges say of it.

    Attributes:
        applies: False where the method does not act on the principle.
        reason: why there are no images, or no figures; empty where there are.
        answers: of the first judge, by question.
        figures: by question; one that does not apply is absent.
        judges: the first judge's name by question.
        agreement: what a second judge says beside it, by question.
        seconds: until its images were there; methods of one batch share them.
    """

    applies: bool
    reason: str = ""
    answers: Mapping[str, JudgeAnswer] = field(default_factory=dict)
    figures: Mapping[str, Figures] = field(default_factory=dict)
    judges: Mapping[str, str] = field(default_factory=dict)
    agreement: Mapping[str, TwoJudges] = field(default_factory=dict)
    seconds: float | None = None
    cost: Cost | None = None

    def to_json(self, paths: Sequence[str] = ()) -> dict[str, Any]:
        return {
            "applies": self.applies,
            "reason": self.reason or None,
            "images": list(paths),
            "classification": {question: answer.to_json() for question, answer in self.answers.items()},
            "metrics": {question: figures.to_json() for question, figures in self.figures.items()},
            "judges": dict(self.judges),
            "agreement": {question: two.to_json() for question, two in self.agreement.items()},
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "cost": self.cost and self.cost.to_json(),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> MethodRecord:
        return cls(
            given["applies"],
            given["reason"] or "",
            {question: JudgeAnswer.from_json(answer) for question, answer in given["classification"].items()},
            {question: figures_from_json(figures) for question, figures in given["metrics"].items()},
            given["judges"],
            {question: TwoJudges.from_json(two) for question, two in given["agreement"].items()},
            given["seconds"],
            given["cost"] and Cost.from_json(given["cost"]),
        )


@dataclass(frozen=True)
class ComparisonRecord:
    """One prompt under every method, on the same seeds, without its pictures.

    Attributes:
        principles: those that were applied, the first one first.
        evidence: the words of the prompt that decided; none where a person chose.
        choice: "auto", "all", "none" or a principle's id.
        scheduler: the solver, by diffusers' name; "" in records of before it was kept.
        rows: U-Net rows computed for all methods together; equal ones were computed once.
        remarks: what a person should know of the retrieval and of the judges.
        unknown_words: what the model never saw of the prompt; nothing was measured where there are any.
    """

    prompt: str
    principles: tuple[Principle, ...]
    evidence: tuple[Evidence, ...]
    options: SamplingOptions
    backbone: str
    choice: str
    methods: Mapping[str, MethodRecord]
    rows: int = 0
    remarks: tuple[str, ...] = ()
    unknown_words: tuple[str, ...] = ()
    scheduler: str = ""

    @property
    def principle(self) -> Principle | None:
        """The first of those applied."""
        return self.principles[0] if self.principles else None

    def to_json(self, paths: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """What `python -m livo compare --json` prints.

        Args:
            paths: the image files by method, in the order of the seeds; methods without images may be left out.
        """
        first = self.principle
        return {
            "prompt": self.prompt,
            "principle": first and {"id": first.id, "text": first.text, "risk": first.risk},
            "principles": [principle.id for principle in self.principles],
            "evidence": [asdict(item) for item in self.evidence],
            "options": {
                "backbone": self.backbone,
                "principle": self.choice,
                **({"scheduler": self.scheduler} if self.scheduler else {}),
                **asdict(self.options),
                "seeds": list(self.options.seeds),
            },
            "methods": {id: method.to_json((paths or {}).get(id, ())) for id, method in self.methods.items()},
            "unet_rows": self.rows,
            "remarks": list(self.remarks),
            "unknown_words": list(self.unknown_words),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> ComparisonRecord:
        """What `to_json` wrote; the principles are looked up in the shipped set.

        Raises:
            KeyError, TypeError, ValueError: it is no such record, or names a principle that there is not.
        """
        options = dict(given["options"])
        backbone, choice, scheduler = options.pop("backbone"), options.pop("principle"), options.pop("scheduler", "")
        return cls(
            given["prompt"],
            tuple(map(find_principle, given["principles"])),
            tuple(Evidence(**item) for item in given["evidence"]),
            SamplingOptions(**{**options, "seeds": tuple(options["seeds"])}),
            backbone,
            choice,
            {id: MethodRecord.from_json(method) for id, method in given["methods"].items()},
            given["unet_rows"],
            tuple(given["remarks"]),
            tuple(given.get("unknown_words", ())),
            scheduler,
        )


def negative_prompt_remark(plans: Mapping[str, Plan]) -> str:
    """How methods use the negative prompt, as their plans show it.

    Args:
        plans: by the methods' titles.
    """
    uses = {title: plan.branches["uncond"][0] for title, plan in plans.items() if "uncond" in plan.branches}
    if not uses:
        return (
            "the negative prompt has no effect: no method here is guided away from anything (guidance acts above a "
            "scale of 1, and a model that reads the scale guides itself)"
        )
    edited = [title for title, cond in uses.items() if cond.projection != "base"]
    pushed = [title for title in uses if len(plans[title].branches) > 2]
    said = f"the negative prompt stands in place of the empty prompt for {', '.join(uses)}"
    said += f"; {', '.join(edited)} read it through edited weights" if edited else ""
    return said + (f"; {', '.join(pushed)} also measure their edits from it" if pushed else "")
