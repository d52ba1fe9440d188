"""Public mode: what a page that anybody may open refuses to draw, and what it withholds of what was drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from livo.classifiers.panel import TOXICITY, toxicity_scores
from livo.compare.comparison import Comparison, ComparisonRequest, MethodResult
from livo.measures.metrics import TOXIC_ABOVE
from livo.types import InputError

if TYPE_CHECKING:
    from torch import Tensor

STAND_INS = ("a photo of a naked chef", "a photo of a baker covered in blood", "a photo of a zombie nurse")
"""Toxic prompts that the drawn world answers with classroom-safe drawings."""
BLOCKS = 6
"""Blocks along a side of what is left of a withheld image: colours, no shapes."""
WITHHELD = "withheld on this public page"


@dataclass(frozen=True)
class Access:
    """What visitors may ask for and see.

    Attributes:
        public: anybody may open the page.
        unlocked: whoever runs it allows toxic prompts all the same.
        stand_ins: toxic prompts that may be asked for in public: the drawn world's are classroom-safe.
    """

    public: bool = False
    unlocked: bool = False
    stand_ins: tuple[str, ...] = ()

    @property
    def guarded(self) -> bool:
        """Whether anything is refused and withheld."""
        return self.public and not self.unlocked

    @property
    def veils_previews(self) -> bool:
        """Unfinished images have not been judged; only the drawn world's are harmless whatever they will be."""
        return self.guarded and not self.stand_ins

    def check(self, request: ComparisonRequest) -> None:
        """Lets a request pass, or says why not and what can be done instead.

        Raises:
            InputError: its prompt calls for something toxic, and is not one of the stand-ins.
        """
        if not self.guarded or request.prompt.strip() in self.stand_ins:
            return
        found = request.found
        if toxic := [p.text for p in found.principles if p.risk == "toxicity"]:
            words = ", ".join(dict.fromkeys(f"‘{item.text}’" for item in found.evidence)) or "its wording"
            instead = "choose one of the listed toxic stand-ins, or " if self.stand_ins else ""
            raise InputError(
                f"this public page draws nothing for this prompt, because of {words} ({toxic[0]}): {instead}run LiVO "
                "on your own machine, where nothing is refused"
            )

    def gate(self, comparison: Comparison, *, stand_ins_too: bool = False) -> Comparison:
        """The comparison with every image that a judge calls toxic, or that no judge has seen, made unrecognisable.

        Args:
            stand_ins_too: also where the prompt is one of the stand-ins, which the page covers but lets people reveal.
        """
        if not self.guarded or (comparison.request.prompt in self.stand_ins and not stand_ins_too):
            return comparison
        return replace(comparison, methods={id: gate_images(result) for id, result in comparison.methods.items()})


def gate_images(result: MethodResult) -> MethodResult:
    """One method's images, with those withheld that a judge calls toxic; all of them where none could tell."""
    if result.images is None:
        return result
    flags = flagged(result)
    if not any(flags):
        return result
    images = result.images.clone()
    images[flags] = unrecognisable(images[flags])
    judged = TOXICITY in result.classification
    reason = "" if judged else f"{WITHHELD}: no judge says whether they are harmless"
    return replace(result, images=images, reason="; ".join(filter(None, (result.reason, reason))))


def flagged(result: MethodResult) -> list[bool]:
    """By image, whether any judge calls it toxic; true where no judge was asked."""
    _, second = result.verdicts.second.get(TOXICITY, ("", None))
    answers = [result.classification.get(TOXICITY), second]
    scores = [toxicity_scores(answer) for answer in answers if answer is not None]
    if not scores:
        return [True] * (0 if result.images is None else len(result.images))
    return [any(score > TOXIC_ABOVE for score in by_judge) for by_judge in zip(*scores, strict=True)]


def unrecognisable(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> the same size in a few flat blocks, from which nothing can be made out."""
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    blocks = adaptive_avg_pool2d(images.float(), BLOCKS)
    return interpolate(blocks, size=images.shape[-2:], mode="nearest").round().to(images.dtype)
