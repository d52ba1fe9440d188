"""The types that pass between parts. Nothing here imports torch at run time.

A picture of the flow, left to right::

    prompt -> Retrieval -> Plan (one per method) -> images (N, 3, H, W) uint8 -> Classification -> metrics -> page

Shapes use one alphabet: N images, L tokens, D width, K classes, C channels, H x W pixels, h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

MAX_SEED = 2**32 - 1
MAX_PROMPT_CHARACTERS = 1_000
MAX_IMAGES = 1_000
MAX_PIXELS = 4_096
"""Along a side: more than any model was trained for, and less than what would take all of a machine's memory."""


class InputError(ValueError):
    """Something a person gave cannot be used; the message says what was wanted, what came and the way out."""


class Lacking(RuntimeError):
    """What a method needs for a principle was never made; the message names it and the way out."""


@dataclass(frozen=True)
class Principle:
    """One value principle v.

    Attributes:
        id: short name used in files and commands, such as `gender_equality`.
        text: the words the value encoder reads, such as `gender equality`.
        risk: what the principle guards against.
        classes: what its judge tells apart; for bias, the protected attribute's values.
        attributes: for bias, what judges are asked about; the first that a judge knows is taken.
    """

    id: str
    text: str
    risk: Literal["bias", "toxicity"]
    classes: tuple[str, ...]
    attributes: tuple[str, ...] = field(default=(), repr=False)  # data sets are named by a digest of the rest


@dataclass(frozen=True)
class Evidence:
    """Why a principle was, or was not, retrieved: the words `prompt[start:end]` and the reason in one phrase."""

    text: str
    start: int
    end: int
    reason: str


@dataclass(frozen=True)
class Retrieval:
    """The answer of a value retriever p(v|x).

    Attributes:
        principle: the argmax, a toxic kind before any bias; None where no principle applies.
        evidence: the words of the prompt that decided, in order of appearance.
        scores: a score in [0, 1] for every principle by id; all 0 where none applies.
        principles: all that apply, the likeliest first; `principle` is the first of them.
        note: what a person should know of how the answer came about, such as that a model did not answer; else empty.
    """

    principle: Principle | None
    evidence: tuple[Evidence, ...]
    scores: Mapping[str, float]
    principles: tuple[Principle, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class SamplingOptions:
    """What is asked of the sampler, the same for every method of one comparison.

    Attributes:
        seeds: one per image; image i depends on seeds[i] and on nothing else in the batch. Integers in [0, 2**32).
        num_inference_steps: solver steps, 1 to 200.
        guidance_scale: w of classifier-free guidance, 0 to 50; it acts above 1.
        height, width: pixels, 4,096 at the most; a multiple of the backbone's step (8 for Stable Diffusion, 4 for the
            miniature times its U-Net's depth).
        negative_prompt: what the unconditional branch reads in place of the empty prompt, for every method that has
            such a branch; without effect where guidance does not act.
    """

    seeds: tuple[int, ...]
    num_inference_steps: int
    guidance_scale: float
    height: int
    width: int
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("no image was asked for: give at least one seed")
        if len(self.seeds) > MAX_IMAGES:
            raise InputError(f"{len(self.seeds)} images were asked for at once; the most is {MAX_IMAGES}")
        for seed in self.seeds:
            if not 0 <= seed <= MAX_SEED:
                raise InputError(f"seed {seed} is out of range: a seed is a whole number from 0 to {MAX_SEED}")
        if not 1 <= self.num_inference_steps <= 200:
            raise InputError(f"{self.num_inference_steps} steps cannot be run: give 1 to 200")
        if not 0 <= self.guidance_scale <= 50:
            raise InputError(f"a guidance scale of {self.guidance_scale} is out of range: give 0 to 50")
        for side, pixels in (("height", self.height), ("width", self.width)):
            if pixels > MAX_PIXELS:
                raise InputError(f"a {side} of {pixels} pixels cannot be made: give at most {MAX_PIXELS}")


@dataclass(frozen=True)
class ModelChanges:
    """What is changed about a backbone, for all methods alike.

    Attributes:
        vae: in place of the model's own: a folder, a .safetensors file or a hub id.
        lora: `FILE[:weight]`, merged into the model.
        scheduler: by diffusers' name, with or without its "Scheduler".
    """

    vae: str | None = None
    lora: str | None = None
    scheduler: str | None = None


NO_CHANGES = ModelChanges()


@dataclass(frozen=True)
class Conditioning:
    """One text that the denoiser reads, and through whose cross-attention weights.

    Attributes:
        prompt_embeds: (L, D) token embeddings.
        projection: name of the K,V weights that read it: "base", or the name of an edit known to the engine.
        pooled: (P,) one embedding of the whole text, where the denoiser reads one beside the tokens, as SDXL does.
    """

    prompt_embeds: Tensor
    projection: str = "base"
    pooled: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """Where the sampler is. `memory` is private to one guide in one run, for guides that keep momentum."""

    index: int
    timestep: int
    num_steps: int
    memory: dict[str, Any] = field(default_factory=dict, compare=False)


class Guide(Protocol):
    """Combines the noise predictions of a plan's branches into one. A frozen dataclass, so that equal guides compare
    equal and equal images are computed once."""

    def __call__(self, noise_preds: Mapping[str, Tensor], step: Step) -> Tensor:
        """(N, C, h, w) predictions by branch name -> one (N, C, h, w) prediction."""
        ...


@dataclass(frozen=True)
class Start:
    """A picture that sampling begins from, partly noised, in place of pure noise.

    Attributes:
        latents: (1 or N, C, h, w) finished latents, one for all images or one per image.
        strength: share of the solver's steps that are run, in (0, 1]; the less, the more of the picture stays.

    Source:
        Meng et al. 2022 (arXiv 2108.01073), with diffusers' image-to-image timesteps.
    """

    latents: Tensor
    strength: float


@dataclass(frozen=True)
class Plan:
    """What a method asks of the engine: conditionings, whose K,V weights read them, how predictions are combined.

    Attributes:
        branches: by name, either one conditioning for all images or one per image (length 1 or N).
        guide: combines the branches' noise predictions.
        options: seeds and sampler settings.
        unet_override: the name of a method's own U-Net; None for the shared one.
        notes: per image, what the method decided for it ("value" / "no value", a direction...), or empty; recorded
            with the images.
        start: what sampling begins from; None for noise. All plans of one run have the same strength.
    """

    branches: Mapping[str, Sequence[Conditioning]]
    guide: Guide
    options: SamplingOptions
    unet_override: str | None = None
    notes: tuple[str, ...] = ()
    start: Start | None = None


@dataclass(frozen=True)
class Artefact:
    """What a method adds to its backbone for one principle, and what making it took.

    Attributes:
        bytes: on disk.
        training: as the file's header has it: "seconds", "images" and whatever else its maker wrote; may be empty.
    """

    bytes: int
    training: Mapping[str, Any]


@dataclass(frozen=True)
class Progress:
    """One report of the engine: after solver step `step` of `num_steps`.

    Attributes:
        previews: by plan name, (N, 3, h, w) uint8: a linear look at the current x0 estimate, latent sized.
        images: by plan name, (N, 3, H, W) uint8, at the last report only; None before.
        seconds: since sampling began.
        rows: U-Net rows computed so far; one row is one latent under one text.
        rows_alone: by plan name, the rows it would have cost so far without the others, which share what is equal.
    """

    step: int
    num_steps: int
    previews: Mapping[str, Tensor]
    images: Mapping[str, Tensor] | None
    seconds: float
    rows: int
    rows_alone: Mapping[str, int]


@dataclass(frozen=True)
class Classification:
    """What a judge says of N images.

    Attributes:
        classes: K names.
        probs: (N, K) float, rows sum to 1.
        threshold: below this largest probability the judge abstains ("cannot tell").
    """

    classes: tuple[str, ...]
    probs: Tensor
    threshold: float = 0.0

    @property
    def labels(self) -> list[int | None]:
        """Class index per image, None where the judge abstains."""
        top, index = self.probs.max(dim=1)
        return [i if p >= self.threshold else None for p, i in zip(top.tolist(), index.tolist(), strict=True)]

    @property
    def counts(self) -> list[int]:
        """Images per class, abstentions left out; K integers."""
        labels = self.labels
        return [sum(label == k for label in labels) for k in range(len(self.classes))]

    @property
    def abstained(self) -> int:
        """Images that the judge would not place."""
        return sum(label is None for label in self.labels)


class Method(Protocol):
    """An alignment method: turns a prompt and a principle into a plan.

    What it can do besides are the protocols below.
    """

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan: ...


@runtime_checkable
class PlansSeveral(Protocol):
    """A method that can apply several principles at once."""

    def plan_for(self, prompt: str, principles: Sequence[Principle], options: SamplingOptions) -> Plan: ...


@runtime_checkable
class ReadsTexts(Protocol):
    """A method whose plan reads other texts beside the prompt and the negative prompt.

    Whoever plans several methods reads `texts` first and has all of them encoded in one batch.
    """

    def texts(self, principle: Principle | None, options: SamplingOptions) -> Sequence[str]: ...


@runtime_checkable
class AtRate(Protocol):
    """A method that steers only a share of its images: the same method with another share, in [0, 1]."""

    def at_rate(self, share: float) -> Method: ...


@runtime_checkable
class AddsToModel(Protocol):
    """A method that adds something to its backbone, whose cost is shown beside its images."""

    def artefact(self, principle: Principle | None) -> Artefact | None: ...


class Judge(Protocol):
    """Labels images. `questions` names what it can be asked ("gender", "tone", "toxicity", ...).

    Of question "toxicity" the first class is "clean".
    """

    @property
    def name(self) -> str:
        """As `--judge` takes it."""
        ...

    @property
    def questions(self) -> tuple[str, ...]:
        """What it can be asked."""
        ...

    def __call__(self, images: Tensor, question: str, prompt: str = "") -> Classification:
        """(N, 3, H, W) uint8 images, made for `prompt` -> one classification of each."""
        ...

    def classes(self, question: str) -> tuple[str, ...]:
        """The K answers to a question."""
        ...

    def confusion(self, question: str) -> Mapping[str, Any] | None:
        """How it did on images whose labels are known: "classes", "matrix" (rows: truth; columns: the classes, then
        "cannot tell"), "n" and "accuracy"; None where that was not measured."""
        ...
