"""The retriever's third stage, optional: a logistic head on frozen sentence embeddings.

    p(v|x) = softmax(W e(x) + b)_v        v: the principles and "none"; e(x): the embedding of the whole prompt

The paper's parametric option. For toxic kinds that no word and no exemplar says, and for prompts in other languages, of
which the words know nothing: there it may find a bias principle too. `python -m train.retriever` trains the head on the
development prompts and the exemplars, and chooses the thresholds. Silent where the prompt negates anything in English.
In other languages, where nothing else looks for toxic kinds, each clause is asked about too: among harmless ones a
toxic clause is lost in the mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from livo.principles import ASSETS, Entry
from livo.retriever.encoders import USE, has_package, load_encoder
from livo.retriever.negation import NEGATORS
from livo.retriever.words import tokens
from livo.types import Evidence, InputError

if TYPE_CHECKING:  # looking a word up needs no numpy: what computes with it imports it
    import numpy as np

AUTO, OFF = "auto", "none"
SHIPPED = ASSETS / "retrieval" / "use"
"""The head on the embeddings `use`."""
FILE = "head.safetensors"
TRAIN = "python -m train.retriever"
NONE = "none"
"""The class of prompts that call for no principle."""

LANGUAGES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ru": "Russian",
    "tr": "Turkish", "zh": "Chinese",
}  # fmt: skip
"""Names of languages by ISO 639-1 code."""

MOST_CLAUSES = 6
"""Clauses of a prompt that are asked about apart; of more, neighbours are asked about together."""
_CLAUSE = re.compile(r"[^,.;:!?…。，、；：！？،؛؟()\[\]{}|\n\r]+")

Found = dict[str, tuple[float, tuple[Evidence, ...]]]
"""By principle's id, its probability and the evidence."""


@dataclass(frozen=True, eq=False)
class Head:
    """A multinomial logistic regression on embeddings, and from when on it is believed.

    Attributes:
        encoder: "use", or the folder or hub id of the embeddings that it was trained on.
        digest: of their weights.
        classes: K names: "none" and ids of principles.
        weight, bias: (K, D) and (K,).
        toxic, toxic_foreign: least probability of a toxic principle, in English and in other languages; in [0.5, 1].
        bias_foreign: of a bias principle in other languages.
        languages: codes of those that it was trained on.
        prompts: how many it was trained on, exemplars among them.
    """

    encoder: str
    digest: str
    classes: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray
    toxic: float
    toxic_foreign: float
    bias_foreign: float
    languages: tuple[str, ...]
    prompts: int

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, D) -> (n, K), rows sum to 1."""
        import numpy as np

        scores = embeddings.astype(np.float64) @ self.weight.T + self.bias
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> Path:
        """Writes it for `load_head`."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        fields = {"encoder": self.encoder, "digest": self.digest, "classes": self.classes, "toxic": self.toxic,
                  "toxic_foreign": self.toxic_foreign, "bias_foreign": self.bias_foreign,
                  "languages": self.languages, "prompts": self.prompts}  # fmt: skip
        import numpy as np

        arrays = {"weight": self.weight.astype(np.float32), "bias": self.bias.astype(np.float32)}
        save_file(arrays, folder / FILE, {"head": json.dumps(fields)})
        return folder / FILE


def load_head(folder: str | Path) -> Head:
    """A head that `train.retriever` wrote.

    Raises:
        InputError: the folder holds none, or it is broken.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / FILE
    try:
        with safe_open(path, "np") as file:
            fields = json.loads(file.metadata()["head"])
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        head = Head(**fields | {"classes": tuple(fields["classes"]), "languages": tuple(fields["languages"])},
                    weight=weight, bias=bias)  # fmt: skip
        if weight.ndim != 2 or not len(head.classes) == len(weight) == len(bias):
            raise ValueError(f"{len(head.classes)} classes, weights {weight.shape}")
    except (OSError, ValueError, TypeError, LookupError, SafetensorError) as error:
        raise InputError(
            f"{path} is no head on sentence embeddings ({type(error).__name__}): "
            f"`{TRAIN} --encoder MODEL --out FOLDER` trains one, and --dense FOLDER then uses it"
        ) from error
    return head


class DenseRetriever:
    """Which principles a prompt calls for as a whole.

    Args:
        entries: the principles; those that the head was not trained on are never found.
        encode: n sentences -> (n, D) unit embeddings.
        head: trained on these embeddings.
    """

    def __init__(self, entries: Sequence[Entry], encode: Callable[[Sequence[str]], np.ndarray], head: Head) -> None:
        self._encode, self.head = encode, head
        self._principles = [entry.principle for entry in entries]

    def __call__(self, prompt: str, english: bool = True) -> Found:
        """The principle that the head is surest of, if it is sure enough; the evidence is the whole prompt.

        Args:
            english: whether the prompt is in English, where only toxic kinds are looked for.
        """
        head = self.head
        if english and any(word.text in NEGATORS for word in tokens(prompt)):
            return {}
        spans = [(0, len(prompt)), *(() if english else clauses(prompt))]
        rows = head.probabilities(self._encode([prompt[start:end] for start, end in spans])).tolist()
        answers = [dict(zip(head.classes, row, strict=True)) for row in rows]
        for risk, least in (("toxicity", head.toxic if english else head.toxic_foreign), ("bias", head.bias_foreign)):
            known = [
                principle for principle in self._principles if principle.risk == risk and principle.id in answers[0]
            ]
            asked = range(len(spans)) if risk == "toxicity" else range(1)
            found = max(((answers[i][v.id], -i, v) for v in known for i in asked), key=lambda f: f[:2], default=None)
            if found is not None and found[0] >= least and not (risk == "bias" and english):
                p, place, best = found[0], -found[1], found[2]
                what = "clause" if place else "prompt as a whole"
                reason = f"the {what}, by sentence embeddings, calls for '{best.text}'"
                start, end = spans[place]
                return {best.id: (p, (Evidence(prompt[start:end], start, end, reason),))}
        return {}


def clauses(prompt: str) -> tuple[tuple[int, int], ...]:
    """Start and end of a prompt's clauses, at most MOST_CLAUSES; none of a prompt of one.

    Example:
        >>> [("un gato, una mesa")[a:b] for a, b in clauses("un gato, una mesa")]
        ['un gato', 'una mesa']
    """
    found = []
    for match in _CLAUSE.finditer(prompt):
        text = match.group()
        if text.strip():
            start = match.start() + len(text) - len(text.lstrip())
            found.append((start, start + len(text.strip())))
    if len(found) < 2:
        return ()
    size = -(-len(found) // MOST_CLAUSES)
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    return tuple((part[0][0], part[-1][1]) for part in parts)


def find_head(source: str) -> Path | None:
    """The folder of the head to use: of "auto" the shipped one, where its package is installed.

    Example:
        >>> find_head("none") is None
        True
    """
    if source in ("", OFF) or (source == AUTO and not has_package()):
        return None
    return SHIPPED if source in (AUTO, USE) else Path(source)


def load_dense(folder: str | Path, entries: Sequence[Entry]) -> DenseRetriever:
    """The stage with the head of a folder.

    Raises:
        InputError: there is none, or its embeddings cannot be loaded or are not those that it was trained on.
    """
    head = load_head(folder)
    encode = load_encoder(head.encoder)
    if encode.digest != head.digest:
        raise InputError(
            f"sentence embeddings {head.encoder}: these are other weights than the head in {folder} was trained on "
            f"(SHA-256 {encode.digest[:12]}..., wanted {head.digest[:12]}...): `{TRAIN}` trains one on them"
        )
    return DenseRetriever(entries, encode, head)
