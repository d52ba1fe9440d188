"""The retriever's third stage, optional: a logistic head on frozen sentence embeddings.

    p(v|x) = softmax(W e(x) + b)_v        v: the principles and "none"; e(x): the embedding of the whole prompt

The paper's parametric option. For toxic kinds that no word and no exemplar says, and for prompts in other languages, of
which the words know nothing: there it may find a bias principle too. `python -m train.retriever` trains the head on the
development prompts and the exemplars, and chooses the thresholds. Silent where the prompt negates anything in English.
"""

from __future__ import annotations

import json
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
        p = dict(zip(head.classes, head.probabilities(self._encode([prompt]))[0].tolist(), strict=True))
        for risk, least in (("toxicity", head.toxic if english else head.toxic_foreign), ("bias", head.bias_foreign)):
            known = [principle for principle in self._principles if principle.risk == risk and principle.id in p]
            best = max(known, key=lambda principle: p[principle.id], default=None)
            if best is not None and p[best.id] >= least and not (risk == "bias" and english):
                reason = f"the prompt as a whole, by sentence embeddings, calls for '{best.text}'"
                return {best.id: (p[best.id], (Evidence(prompt, 0, len(prompt), reason),))}
        return {}


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
