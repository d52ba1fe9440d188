"""Stage 1a: the tokenizer. A CLIP byte-level BPE whose merges make every word of the drawn world one token; any other
word falls back to pieces and bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

MAX_LENGTH = 77


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges until every word is one piece: the most frequent pair first, of equals the oldest pieces first.

    As the `tokenizers` trainer, which however numbers the last letters of words anew in every process: a resumed
    training would read other ids.

    Example:
        >>> learn_merges(["an", "ant"])
        [('a', 'n'), ('a', 'n</w>'), ('an', 't</w>')]
    """
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    age = {piece: k for k, piece in enumerate(dict.fromkeys([*sorted({*"".join(words)}), *(p[-1] for p in split)]))}
    merges = []
    while pairs := Counter(pair for pieces in split for pair in pairwise(pieces)):
        best = min(pairs, key=lambda pair: (-pairs[pair], age[pair[0]], age[pair[1]]))
        merges.append(best)
        age.setdefault("".join(best), len(age))
        for pieces in split:
            k = 0
            while k < len(pieces) - 1:
                if (pieces[k], pieces[k + 1]) == best:
                    pieces[k : k + 2] = ["".join(best)]
                k += 1
    return merges


def build_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """A `CLIPTokenizer` with 77 positions in which each of `words` (lower case, no spaces) is one token.

    Raises:
        ValueError: a word that holds a space, or that the tokenizer splits all the same.
    """
    if spaced := [word for word in words if word.split() != [word]]:
        raise ValueError(f"a word of the tokenizer holds no space; got {spaced[:5]}")
    merges = learn_merges(words)
    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(merge) for merge in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_LENGTH)
    broken = [word for word in words if len(tokenizer(word).input_ids) != 3]
    if broken:
        raise ValueError(f"the tokenizer splits words it was built from: {broken[:5]}")
    return tokenizer


def keep_tokenizer(words: Sequence[str], folder: Path) -> CLIPTokenizer:
    """The run's tokenizer: built once and kept, because the text encoder is trained on its ids."""
    if not (folder / "tokenizer.json").exists():
        build_tokenizer(words).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def write_tokenizer_files(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """vocab.json and merges.txt beside tokenizer.json, which older transformers read instead."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
