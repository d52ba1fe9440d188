"""How a prompt becomes what a denoiser reads: through CLIP, through two of them, or through T5.

One small class a kind. Each also gives the token that a value encoder, a copy of the same encoders, makes of a text.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)

from livo.types import Conditioning


def tokenize(tokenizer: CLIPTokenizer, text: str, max_length: int) -> Tensor:
    """(1, max_length) ids of one text, padded, or cut at the end with the end-of-text token kept."""
    encoded = tokenizer(text, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt")
    return encoded.input_ids


def tokenize_all(tokenizer: CLIPTokenizer, texts: Sequence[str], max_length: int) -> Tensor:
    """(B, max_length) ids, each text's as `tokenize` has them."""
    return torch.cat([tokenize(tokenizer, text, max_length) for text in texts])


def read_part(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int) -> str:
    """The beginning of a text that fits into so many tokens, special ones included: whole words, as they stand."""
    ends = [match.end() for match in re.finditer(r"\S+", text)]

    def fits(words: int) -> bool:
        ids = tokenizer(text[: ends[words - 1]], truncation=False, verbose=False).input_ids
        return len(ids) <= max_length

    if not ends or fits(len(ends)):
        return text
    most = bisect.bisect_left(range(1, len(ends) + 1), True, key=lambda words: not fits(words))
    return text[: ends[most - 1]] if most else ""


class PromptEncoder(Protocol):
    """What every kind can be asked."""

    @property
    def width(self) -> int:
        """D of a token."""
        ...

    @property
    def pooled_width(self) -> int:
        """P of the pooled embedding beside the tokens; 0 where there is none."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens of a prompt at the most."""
        ...

    @property
    def encoders(self) -> Mapping[str, PreTrainedModel]:
        """Its networks, by their folder in a diffusers model."""
        ...

    def conditions(self, prompts: Sequence[str]) -> list[Conditioning]:
        """Of each prompt (L, D) tokens, and (P,) beside them where P is not 0; as the diffusers pipeline has them.

        Each encoder is called once for all prompts; T5, where prompts are not padded, once a length.
        """
        ...

    def read(self, prompt: str) -> str:
        """The beginning of a prompt that is read, in whole words: what follows is cut."""
        ...

    @property
    def copied(self) -> Mapping[str, PreTrainedModel]:
        """Those of `encoders` that a value encoder is a copy of."""
        ...

    def value(self, text: str) -> Tensor:
        """(D,) final-normed hidden state at the first end-of-text token: a value token if the encoders are E^v's."""
        ...

    def over(self, encoders: Mapping[str, PreTrainedModel]) -> PromptEncoder:
        """The same with other encoders in place of those `copied`."""
        ...

    def knows(self, word: str) -> bool:
        """Whether the word is one entry of the vocabulary."""
        ...


@dataclass(frozen=True, eq=False)
class ClipText:
    """One CLIP text encoder, its final hidden states: Stable Diffusion 1.x. Prompts are padded to 77 tokens."""

    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel
    pooled_width = 0

    @property
    def width(self) -> int:
        return self.encoder.config.hidden_size

    @property
    def max_length(self) -> int:
        return min(self.tokenizer.model_max_length, self.encoder.config.max_position_embeddings)

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        return {"text_encoder": self.encoder}

    @property
    def copied(self) -> dict[str, PreTrainedModel]:
        return self.encoders

    def ids(self, texts: Sequence[str]) -> Tensor:
        """(B, 77) on the encoder's device."""
        return tokenize_all(self.tokenizer, texts, self.max_length).to(self.encoder.device)

    def read(self, prompt: str) -> str:
        return read_part(self.tokenizer, prompt, self.max_length)

    @torch.no_grad()  # not inference_mode: trainers put these into graphs
    def conditions(self, prompts: Sequence[str]) -> list[Conditioning]:
        return [Conditioning(tokens) for tokens in self.encoder(self.ids(prompts))[0]]

    @torch.no_grad()
    def values(self, texts: Sequence[str]) -> Tensor:
        """(B, D), each text's as `value` has it."""
        return self.encoder(self.ids(texts), return_dict=False)[1]

    def value(self, text: str) -> Tensor:
        return self.values([text])[0]

    def over(self, encoders: Mapping[str, PreTrainedModel]) -> ClipText:
        return ClipText(self.tokenizer, encoders["text_encoder"])

    def knows(self, word: str) -> bool:
        return f"{word}</w>" in self.tokenizer.get_vocab()


@dataclass(frozen=True, eq=False)
class TwoClipTexts:
    """Two CLIP text encoders side by side, their last but one hidden states: SDXL. Prompts are padded to 77 tokens.

    The pooled embedding is the second one's, at its end-of-text token and projected.

    Attributes:
        zero_empty: the empty prompt is zeros and no text, as the model's `force_zeros_for_empty_prompt` says.

    Source:
        Podell et al. 2023 (arXiv 2307.01952), Sec. 2.1.
    """

    first: ClipText
    tokenizer: CLIPTokenizer
    encoder: CLIPTextModelWithProjection
    zero_empty: bool

    @property
    def width(self) -> int:
        return self.first.width + self.encoder.config.hidden_size

    @property
    def pooled_width(self) -> int:
        return self.encoder.config.projection_dim

    @property
    def max_length(self) -> int:
        return self.first.max_length

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        return {**self.first.encoders, "text_encoder_2": self.encoder}

    def read(self, prompt: str) -> str:
        return self.first.read(prompt)

    @property
    def copied(self) -> dict[str, PreTrainedModel]:
        return self.encoders

    def _ids(self, texts: Sequence[str]) -> Tensor:
        return tokenize_all(self.tokenizer, texts, self.max_length).to(self.encoder.device)

    @torch.no_grad()
    def conditions(self, prompts: Sequence[str]) -> list[Conditioning]:
        one = self.first.encoder(self.first.ids(prompts), output_hidden_states=True)
        two = self.encoder(self._ids(prompts), output_hidden_states=True)
        tokens = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        zero = [self.zero_empty and not prompt for prompt in prompts]
        return [
            Conditioning(torch.zeros_like(own), pooled=torch.zeros_like(pooled))
            if empty
            else Conditioning(own, pooled=pooled)
            for own, pooled, empty in zip(tokens, two.text_embeds, zero, strict=True)
        ]

    @torch.no_grad()
    def value(self, text: str) -> Tensor:
        """(D,): both encoders' states side by side; the second's before its projection."""
        return torch.cat([self.first.value(text), self.encoder.text_model(self._ids([text])).pooler_output[0]])

    def over(self, encoders: Mapping[str, PreTrainedModel]) -> TwoClipTexts:
        return TwoClipTexts(self.first.over(encoders), self.tokenizer, encoders["text_encoder_2"], self.zero_empty)

    def knows(self, word: str) -> bool:
        return self.first.knows(word)


@dataclass(frozen=True, eq=False)
class T5Text:
    """T5's encoder: PixArt. Prompts are in lower case, cut at `max_length`, and as long as they are.

    PixArt's pipelines pad them and hide the padding by masks, in T5 and in the cross-attention. Tokens that are hidden
    from all others change nothing, so none are made here. Their cleaning of captions, for texts off the web, is left
    out.
    """

    tokenizer: PreTrainedTokenizerBase
    encoder: T5EncoderModel
    pooled_width = 0

    @property
    def width(self) -> int:
        return self.encoder.config.d_model

    @property
    def max_length(self) -> int:
        return self.tokenizer.model_max_length

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        return {"text_encoder": self.encoder}

    def read(self, prompt: str) -> str:
        return read_part(self.tokenizer, prompt, self.max_length)  # in small letters it has as many tokens or fewer

    @property
    def copied(self) -> dict[str, PreTrainedModel]:
        return self.encoders

    @torch.no_grad()
    def conditions(self, prompts: Sequence[str]) -> list[Conditioning]:
        texts = [prompt.lower().strip() for prompt in prompts]
        ids = self.tokenizer(texts, max_length=self.max_length, truncation=True).input_ids
        found: dict[int, Tensor] = {}
        for length in {len(own) for own in ids}:
            places = [i for i, own in enumerate(ids) if len(own) == length]
            batch = torch.tensor([ids[i] for i in places], device=self.encoder.device)
            found |= zip(places, self.encoder(batch)[0], strict=True)
        return [Conditioning(found[i]) for i in range(len(ids))]

    def value(self, text: str) -> Tensor:
        return self.conditions([text])[0].prompt_embeds[-1]  # the end token, which cutting keeps

    def over(self, encoders: Mapping[str, PreTrainedModel]) -> T5Text:
        return T5Text(self.tokenizer, encoders["text_encoder"])

    def knows(self, word: str) -> bool:
        return f"▁{word}" in self.tokenizer.get_vocab()
