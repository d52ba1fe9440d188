"""Stage 1a: the tokenizer. A CLIP byte-level BPE whose merges make every word of the drawn world one token; any other
word falls back to pieces and bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from transformers import CLIPTokenizer

MAX_LENGTH = 77


def build_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """A `CLIPTokenizer` with 77 positions in which each of `words` (lower case, no spaces) is one token."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(words, trainer)
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(merge) for merge in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_LENGTH)
    broken = [word for word in words if len(tokenizer(word).input_ids) != 3]
    if broken:
        raise RuntimeError(f"the tokenizer splits words it was built from: {broken[:5]}")
    return tokenizer
