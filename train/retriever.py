"""Trains the head of the retriever's dense stage: `python -m train.retriever --encoder use --out FOLDER`.

    prompts of the development split and exemplars -> frozen embeddings e -> W, b of  p(v|x) = softmax(W e(x) + b)_v

    ridge        of RIDGES the one with the least log-loss in five folds of whole families, and whole languages
    thresholds   0.5, or as much more as lets at most MOST_WRONG of the English prompts without such a principle be
                 flagged in the folds, and MOST_WRONG_FOREIGN of those in other languages

Test and fresh prompts take no part. What it prints is of the folds; `python -m livo retrieve --benchmark --split fresh
--dense FOLDER` measures.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from livo.measures.metrics import wilson_interval
from livo.principles import Entry, load_entries
from livo.retriever.benchmark import APART, Labelled, load_prompts
from livo.retriever.dense import NONE, Head
from livo.retriever.encoders import USE, Encoder, load_encoder
from livo.types import InputError

RIDGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Weight of |W|^2 against the sum of the log-losses."""
FOLDS = 5
MOST_WRONG, MOST_WRONG_FOREIGN = 0.005, 0.01
"""Fewer in English, where words have decided most prompts already and those that mislead are what is left."""


@dataclass(frozen=True)
class Examples:
    """What a head is trained on: n texts, their embeddings (n, D), classes (n,) and groups; groups lie in one fold.

    Attributes:
        classes: names, "none" first.
        foreign: (n,) whether the text is in another language than English.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]
    foreign: np.ndarray
    classes: tuple[str, ...]

    def toxic(self, risks: Mapping[str, str]) -> np.ndarray:
        """(K,) whether a class is a toxic kind."""
        return np.array([risks.get(name) == "toxicity" for name in self.classes])


def examples(encode: Encoder, prompts: Sequence[Labelled], entries: Sequence[Entry]) -> Examples:
    """Labelled prompts, by their first principle, and the exemplars."""
    classes = (NONE, *(entry.id for entry in entries))
    rows = [(p.prompt, (p.principles or (NONE,))[0], _group(p), p.group == APART) for p in prompts]
    rows += [(text, entry.id, f"exemplar {text}", False) for entry in entries for text in entry.exemplars]
    texts, labels, groups, foreign = zip(*rows, strict=True)
    numbers = np.array([classes.index(label) for label in labels])
    return Examples(encode(texts), numbers, tuple(groups), np.array(foreign), classes)


def _group(prompt: Labelled) -> str:
    """A family of prompts, or a language: a prompt must not be judged by its translation."""
    return f"language {prompt.language}" if prompt.group == APART else prompt.family


def fit(x: np.ndarray, labels: np.ndarray, num_classes: int, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """W (K, D) and b (K,) of largest likelihood under a ridge on W.

    Args:
        x, labels: (n, D) embeddings and (n,) classes.

    Raises:
        ValueError: there are fewer than two classes among the labels.
    """
    if len(set(labels.tolist())) < 2:
        raise ValueError(f"a head needs examples of two classes; got {len(labels)} of {len(set(labels.tolist()))}")
    inputs, wanted = torch.from_numpy(x.astype(np.float64)), torch.from_numpy(labels)
    weight = torch.zeros(num_classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        losses = torch.nn.functional.cross_entropy(inputs @ weight.T + bias, wanted, reduction="sum")
        loss = (losses + ridge * weight.square().sum()) / len(inputs)
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)
    return weight.detach().numpy(), bias.detach().numpy()


def out_of_fold(data: Examples, ridge: float) -> np.ndarray:
    """(n, K) probabilities of every example by a head that was trained without its group."""
    folds = np.array([int(hashlib.sha256(group.encode()).hexdigest(), 16) % FOLDS for group in data.groups])
    found = np.zeros((len(data.labels), len(data.classes)))
    for fold in range(FOLDS):
        out = folds == fold
        weight, bias = fit(data.embeddings[~out], data.labels[~out], len(data.classes), ridge)
        head = Head("", "", data.classes, weight, bias, 0.5, 0.5, 0.5, (), 0)
        found[out] = head.probabilities(data.embeddings[out])
    return found


def log_loss(p: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of (n, K) probabilities."""
    return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-300)).mean())


def choose_threshold(p: Sequence[float] | np.ndarray, most_wrong: float) -> float:
    """The least threshold, at least 0.5, that at most that share of probabilities of wrong answers reaches.

    Example:
        >>> choose_threshold([0.2, 0.7], 0.0) > 0.7, choose_threshold([0.2, 0.3], 0.0)
        (True, 0.5)
    """
    wrong = sorted(np.asarray(p, dtype=np.float64).tolist(), reverse=True)
    allowed = int(most_wrong * len(wrong))
    return 0.5 if allowed >= len(wrong) or wrong[allowed] < 0.5 else float(np.nextafter(wrong[allowed], 2.0))


def train(
    encoder: str, encode: Encoder, data: Examples, risks: Mapping[str, str], languages: Sequence[str]
) -> tuple[Head, np.ndarray]:
    """The head, and the probabilities of the folds that its ridge and thresholds were chosen by.

    Raises:
        InputError: the examples cannot be learnt from.
    """
    try:
        tried = {ridge: out_of_fold(data, ridge) for ridge in RIDGES}
        ridge = min(tried, key=lambda ridge: log_loss(tried[ridge], data.labels))
        weight, bias = fit(data.embeddings, data.labels, len(data.classes), ridge)
    except ValueError as error:
        raise InputError(f"these prompts cannot be learnt from: {error}") from error
    p, toxic = tried[ridge], data.toxic(risks)
    harmless, even = ~toxic[data.labels], data.labels == 0
    worst, bias_p = p[:, toxic].max(axis=1, initial=0.0), p[:, ~toxic][:, 1:].max(axis=1, initial=0.0)
    head = Head(
        encoder, encode.digest, data.classes, weight, bias,
        choose_threshold(worst[harmless & ~data.foreign], MOST_WRONG),
        choose_threshold(worst[harmless & data.foreign], MOST_WRONG_FOREIGN),
        choose_threshold(bias_p[even & data.foreign], MOST_WRONG_FOREIGN),
        tuple(languages), len(data.labels),
    )  # fmt: skip
    return head, p


def report(head: Head, data: Examples, p: np.ndarray, risks: Mapping[str, str]) -> list[str]:
    """What the head would have found in the folds."""
    toxic = data.toxic(risks)
    lines = []
    for name, part, least in (
        ("English", ~data.foreign, head.toxic),
        ("other languages", data.foreign, head.toxic_foreign),
    ):
        kind = np.where(toxic, p, 0.0).argmax(axis=1)
        flagged = np.where(toxic, p, 0.0).max(axis=1) >= least
        wanted = toxic[data.labels] & part
        for what, hits in ((f"toxic, {name}: the right kind", (flagged & (kind == data.labels))[wanted]),
                           (f"harmless, {name}: flagged", flagged[~toxic[data.labels] & part])):  # fmt: skip
            if len(hits):
                low, high = wilson_interval(int(hits.sum()), len(hits))
                lines.append(f"{what} {int(hits.sum())} of {len(hits)} ({100 * low:.0f}-{100 * high:.0f} %)")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 where the embeddings or the folder cannot be used."""
    prog = "python -m train.retriever"
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--encoder", default=USE, help="use, a sentence-transformers folder or a hub id (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/dense"), help="folder for the head (%(default)s)")
    args = parser.parse_args(arguments)
    try:
        source = str(Path(args.encoder).resolve()) if Path(args.encoder).is_dir() else args.encoder
        encode, entries, prompts = load_encoder(source), load_entries(), load_prompts(split="dev")
        risks = {entry.id: entry.risk for entry in entries}
        data = examples(encode, prompts, entries)
        head, p = train(source, encode, data, risks, sorted({row.language for row in prompts}))
        path = head.save(args.out)
    except (InputError, OSError) as error:
        print(f"livo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for line in report(head, data, p, risks):
        print(line)
    print(
        f"thresholds {head.toxic:.3f} in English, {head.toxic_foreign:.3f} and, for bias, {head.bias_foreign:.3f} in "
        f"other languages; trained on {head.prompts:,} texts; {path} is for --dense {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
