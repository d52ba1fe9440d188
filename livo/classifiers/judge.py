"""Zero-shot judges on an `open_clip` model; and the drawn world's evaluator, one of them, read from disk.

An image's scores for a question are a softmax over the similarities to the question's sentences. The judge abstains
("cannot tell") where the best class stays below the question's threshold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from livo.classifiers.clip import PROMPT, ImageQuestion
from livo.classifiers.familiar import FIGURES, Familiar, read_familiar
from livo.classifiers.hub import JudgeError
from livo.types import Classification

THRESHOLDS = {"gender": 0.7, "tone": 0.5}
CONFIG, QUESTIONS, CONFUSION = "open_clip_config.json", "questions.json", "confusion.json"
WEIGHTS = ("open_clip_visual.safetensors", "open_clip_text.safetensors")  # by tower: each file under 10 MB


class ClipJudge:
    """Zero-shot judge on an `open_clip` model.

    Args:
        model: the CLIP.
        questions: what it can be asked; sentences may hold `{prompt}`.
        confusion: by question, what `confusion` returns.
        name: what to call it.
        preprocess: (N, 3, H, W) uint8 -> what the model reads; without one images are resized to the size of its
            config and normalised to [-1, 1].
        tokenizer: n sentences -> (n, L) token ids; CLIP's own without one.
        thresholds: by question, the least probability of an answer; 0 for those left out.
        familiar: tells pictures unlike any it was trained on, of which it says nothing that it may leave unsaid: where
            a question has a threshold it abstains. What is toxic is judged all the same.
    """

    def __init__(
        self, model: nn.Module, questions: tuple[ImageQuestion, ...], confusion: Mapping[str, Any] | None = None, *,
        name: str = "evaluator", preprocess: Callable[[Tensor], Tensor] | None = None,
        tokenizer: Callable[[list[str]], Tensor] | None = None, thresholds: Mapping[str, float] = THRESHOLDS,
        familiar: Familiar | None = None,
    ) -> None:  # fmt: skip
        model.eval().requires_grad_(False)
        self.model = cast(Any, model)  # open_clip's classes share no type for what is called here
        self.name = name
        self.questions = tuple(question.name for question in questions)
        self._questions = {question.name: question for question in questions}
        self._confusion, self._thresholds = dict(confusion or {}), thresholds
        self._familiar = familiar
        self._preprocess = preprocess or self._to_size
        self._tokenizer = tokenizer or open_clip.SimpleTokenizer(
            context_length=self.model.positional_embedding.shape[0]
        )
        self._scale = self.model.logit_scale.exp().item()
        # A half-precision CLIP keeps some of its numbers whole; what its first convolution reads is half.
        self._pixels = next(part.weight for part in self.model.visual.modules() if isinstance(part, nn.Conv2d))
        fixed = [question for question in questions if not question.asks_of_prompt]
        self._texts = {question.name: self.text_features(question.sentences) for question in fixed}

    def _to_size(self, images: Tensor) -> Tensor:
        size = self.model.visual.image_size  # one number for a ResNet, two for a transformer
        height, width = (size, size) if isinstance(size, int) else size
        x = images.float() / 127.5 - 1
        if x.shape[-2:] != (height, width):
            x = nn.functional.interpolate(x, (height, width), mode="bilinear", antialias=True)
        return x

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, D) unit features, on the CPU."""
        parts = [self.model.encode_image(self._preprocess(part).to(self._pixels)) for part in images.split(128)]
        return nn.functional.normalize(torch.cat(parts).float(), dim=-1).cpu()

    @torch.inference_mode()
    def ask(self, features: Tensor, question: str, prompt: str = "") -> Classification:
        """(N, D) features -> a classification of each; for several questions about the same images.

        Raises:
            KeyError: a question the judge was not made for, naming those it was.
        """
        if question not in self._questions:
            raise KeyError(f"the judge cannot be asked {question!r}; it answers: {', '.join(self.questions)}")
        texts = self._texts.get(question)
        if texts is None:
            texts = self.text_features(self._sentences(self._questions[question], prompt))
        probs = self._questions[question].by_class((self._scale * features @ texts.T).softmax(dim=1))
        if self._familiar and question in self._thresholds:
            probs[~self._familiar.knows(features)] = 1 / probs.shape[1]
        return Classification(self.classes(question), probs, self._thresholds.get(question, 0.0))

    def __call__(self, images: Tensor, question: str, prompt: str = "") -> Classification:
        """(N, 3, H, W) uint8 images -> one classification of each."""
        return self.ask(self.features(images), question, prompt)

    def _sentences(self, question: ImageQuestion, prompt: str) -> list[str]:
        """The sentences with the prompt in them; a long one is shortened until the classes, at its end, all fit."""
        words = prompt.split()
        while True:
            sentences = [sentence.replace(PROMPT, " ".join(words)) for sentence in question.sentences]
            distinct = {tuple(row) for row in self._tokenizer(sentences).tolist()}
            if len(distinct) == len(sentences) or not words:
                return sentences
            words.pop()

    @torch.inference_mode()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """n sentences -> (n, D) unit features, in the images' own space: a dot product is CLIP's similarity."""
        tokens = self._tokenizer(list(texts)).to(self._pixels.device)
        return nn.functional.normalize(self.model.encode_text(tokens).float(), dim=-1).cpu()

    @torch.inference_mode()
    def leading_directions(self, count: int) -> Tensor:
        """(count, D) orthonormal directions along which its own class sentences differ most, at most D of them."""
        texts = torch.cat([self.text_features(self._sentences(q, "")) for q in self._questions.values()]).double()
        directions = torch.linalg.svd(texts - texts.mean(dim=0), full_matrices=False).Vh[:count]
        # The sign of a singular vector is arbitrary: the largest entry is made positive.
        signs = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).sign()
        return (directions * signs).float()

    def classes(self, question: str) -> tuple[str, ...]:
        """The K answers to a question."""
        return self._questions[question].classes

    def confusion(self, question: str) -> dict[str, Any] | None:
        """How the judge did on held-out renders, whose labels are exact.

        Returns:
            "classes", "matrix" (rows: truth; columns: the classes, then "cannot tell"), "n" and "accuracy"; None where
            nothing was measured.
        """
        return self._confusion.get(question)


def save_judge(model: nn.Module, config: Mapping[str, Any], questions: tuple[ImageQuestion, ...], folder: Path) -> None:
    """Write an evaluator as float16 under `open_clip`'s own config and key names, with its questions."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    (folder / CONFIG).write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2), encoding="utf-8"
    )
    towers: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for key, value in model.state_dict().items():
        half = value.half() if value.is_floating_point() else value
        towers[0 if key.startswith("visual.") else 1][key] = half.contiguous()
    for name, tower in zip(WEIGHTS, towers, strict=True):
        save_file(tower, folder / name)
    rows = [{"name": q.name, "classes": q.classes, "sentences": q.sentences} for q in questions]
    (folder / QUESTIONS).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def read_confusion(folder: Path) -> dict[str, Any] | None:
    """The confusion matrices that lie in a judge's folder, by question; None where none were measured.

    Raises:
        OSError, ValueError: there are, and they cannot be read.
    """
    path = folder / CONFUSION
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def load_judge(folder: str | Path) -> ClipJudge:
    """Read an evaluator that `save_judge` wrote.

    Raises:
        JudgeError: a file is missing or cannot be read.
    """
    folder = Path(folder)
    path = folder / CONFIG
    try:
        model = open_clip.CLIP(**json.loads(path.read_text(encoding="utf-8"))["model_cfg"])
        path = folder / QUESTIONS
        rows = json.loads(path.read_text(encoding="utf-8"))
        questions = tuple(ImageQuestion(row["name"], tuple(row["classes"]), tuple(row["sentences"])) for row in rows)
        if not questions:
            raise ValueError("it holds no question")
        state: dict[str, Tensor] = {}
        for name in WEIGHTS:
            path = folder / name
            state |= {
                key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()
            }
        model.load_state_dict(state)
        path = folder / CONFUSION
        confusion = read_confusion(folder)
        path = folder / FIGURES
        return ClipJudge(model, questions, confusion, familiar=read_familiar(folder))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = "restore it with git, or make it with `python -m train.miniature`"
        raise JudgeError(f"the judge's {path} cannot be read ({why}); {remedy}") from error
