"""The retriever's optional third stage: sentence embeddings of the prompt and of the exemplars, calibrated.

    s_v = max over the exemplars e of v of  cos(embedding(prompt), embedding(e))
    p(v|x) = sigmoid(slope * s_v + intercept)                     applies where p >= threshold

The paper's parametric option, for toxic kinds said in words that no exemplar shares. Any sentence-transformers folder of a
BERT-like model with mean or first-token pooling is read, with transformers alone: the package itself would bring
scikit-learn for two lines of arithmetic. `python -m train.retriever` chooses the three numbers on the development prompts.
Like the exemplars by words, it is silent where the prompt negates anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from livo.principles import Entry
from livo.retriever.negation import NEGATORS
from livo.retriever.words import tokens
from livo.types import Evidence, InputError

if TYPE_CHECKING:
    from torch import Tensor

CALIBRATION = "dense.json"
TRAIN = "python -m train.retriever"
POOLINGS = ("pooling_mode_mean_tokens", "pooling_mode_cls_token")
MODULES = ("Transformer", "Pooling", "Normalize")
LONGEST = 128
"""Tokens of a prompt that are read."""


@dataclass(frozen=True)
class Calibration:
    """How similarities become probabilities.

    Attributes:
        model: folder or hub id of the embeddings it was chosen for.
        slope, intercept: of the logistic curve.
        threshold: least probability of a principle that applies, in [0.5, 1].
        prompts: how many it was chosen on.
    """

    model: str
    slope: float
    intercept: float
    threshold: float
    prompts: int

    def save(self, folder: Path) -> Path:
        """Writes it for `load_dense`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CALIBRATION
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path


class SentenceEncoder:
    """Unit embeddings of sentences.

    Args:
        source: a sentence-transformers folder, or an id of the hub.

    Raises:
        InputError: it is not here, is broken, or is of a kind that this class does not read.
    """

    def __init__(self, source: str) -> None:
        import torch
        from huggingface_hub import snapshot_download
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        self._torch = torch
        try:
            folder = Path(source)
            if not folder.is_dir():
                patterns = ["*.json", "*.txt", "*.model", "model.safetensors", "1_Pooling/*"]
                folder = Path(snapshot_download(source, allow_patterns=patterns))
            modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
            kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
            if kinds[:2] != list(MODULES[:2]) or not set(kinds) <= set(MODULES):
                raise ValueError(f"it is made of {', '.join(kinds)}; wanted {', '.join(MODULES)}")
            pooling = json.loads((folder / modules[1]["path"] / "config.json").read_text(encoding="utf-8"))
            self._pooling = _pooling_of(pooling)
            body = folder / modules[0].get("path", "")
            self._tokenizer = AutoTokenizer.from_pretrained(body)
            self._model, told = AutoModel.from_pretrained(body, output_loading_info=True, dtype=torch.float32)
        except (OSError, RuntimeError, ValueError, LookupError, TypeError, SafetensorError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"sentence embeddings {source} cannot be loaded ({why}): give a sentence-transformers folder, which "
                "`hf download OWNER/NAME --local-dir FOLDER` fetches where there is a network"
            ) from error
        if lacking := sorted(name for name in told["missing_keys"] if not name.startswith("pooler.")):
            raise InputError(
                f"sentence embeddings {source} lack {len(lacking)} weights, such as {lacking[0]}: download them again, whole"
            )
        self._model.eval().requires_grad_(False)

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """n sentences -> (n, D) unit embeddings."""
        torch = self._torch
        longest = min(LONGEST, self._tokenizer.model_max_length)
        with torch.inference_mode():
            given = self._tokenizer(
                list(sentences), padding=True, truncation=True, max_length=longest, return_tensors="pt"
            )
            hidden = self._model(**given).last_hidden_state
            if self._pooling == POOLINGS[1]:
                pooled = hidden[:, 0]
            else:
                mask = given["attention_mask"][..., None].to(hidden)
                pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            return torch.nn.functional.normalize(pooled, dim=-1)


def _pooling_of(config: dict) -> str:
    """Which of `POOLINGS`; newer folders name it under "pooling_mode", older ones by a flag each."""
    if "pooling_mode" in config:
        wanted = [{"mean": POOLINGS[0], "cls": POOLINGS[1]}.get(config["pooling_mode"], config["pooling_mode"])]
    else:
        wanted = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    if len(wanted) != 1 or wanted[0] not in POOLINGS:
        raise ValueError(f"it pools by {' and '.join(map(str, wanted)) or 'nothing'}; wanted {' or '.join(POOLINGS)}")
    return wanted[0]


class DenseRetriever:
    """Which principles' exemplars a prompt means the same as.

    Args:
        entries: the principles; those without exemplars are never found.
        encode: n sentences -> (n, D) unit embeddings.
        calibration: chosen for these embeddings.
    """

    def __init__(
        self, entries: Sequence[Entry], encode: Callable[[Sequence[str]], Tensor], calibration: Calibration
    ) -> None:
        self._encode, self._calibration = encode, calibration
        self._entries = [entry for entry in entries if entry.exemplars]
        self._embeddings = [encode(entry.exemplars) for entry in self._entries]

    def similarities(self, prompt: str) -> dict[str, tuple[float, str]]:
        """s_v and the exemplar that it is of, by the principle's id."""
        embedding = self._encode([prompt])[0]
        found = {}
        for entry, known in zip(self._entries, self._embeddings, strict=True):
            best = (known @ embedding).max(dim=0)
            found[entry.principle.id] = float(best.values), entry.exemplars[int(best.indices)]
        return found

    def __call__(self, prompt: str) -> dict[str, tuple[float, tuple[Evidence, ...]]]:
        """Probability and evidence of every principle that applies, by id; the evidence is the whole prompt."""
        if not self._entries or any(word.text in NEGATORS for word in tokens(prompt)):
            return {}
        found: dict[str, tuple[float, tuple[Evidence, ...]]] = {}
        for id, (similarity, exemplar) in self.similarities(prompt).items():
            p = probability(similarity, self._calibration.slope, self._calibration.intercept)
            if p >= self._calibration.threshold:
                reason = f"means much the same as '{exemplar}' (cosine {similarity:.2f})"
                found[id] = p, (Evidence(prompt, 0, len(prompt), reason),)
        return found


def probability(similarity: float, slope: float, intercept: float) -> float:
    """The logistic curve, without overflow.

    Example:
        >>> probability(0.5, 10, -5), probability(1, 1000, 0), probability(-1, 1000, 0) < 1e-100
        (0.5, 1.0, True)
    """
    import math

    x = slope * similarity + intercept
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(max(x, -700)) / (1 + math.exp(max(x, -700)))


def load_dense(folder: str | Path, entries: Sequence[Entry]) -> DenseRetriever:
    """The stage that `train.retriever` calibrated.

    Raises:
        InputError: the folder holds no calibration, or its embeddings cannot be loaded.
    """
    path = Path(folder) / CALIBRATION
    try:
        calibration = Calibration(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no calibration of sentence embeddings ({type(error).__name__}): `{TRAIN} --model MODEL --out FOLDER` "
            "chooses one, and --dense FOLDER then uses it"
        ) from error
    return DenseRetriever(entries, SentenceEncoder(calibration.model), calibration)
