"""How a prompt becomes what Stable Diffusion 3 and Flux read: CLIP's and T5's tokens, and a pooled embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)

from livo.diffusion.text_encoders import ClipText, read_part, tokenize_all
from livo.types import Conditioning


class TrainableText(Protocol):
    """A text side whose copies can be trained as a value encoder: Stable Diffusion 3's and Flux's."""

    def value_ids(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        """What `values` reads of B texts: (B, L) ids for each of the copies, on the CPU."""
        ...

    def values(self, *ids: Tensor) -> Tensor:
        """`value_ids`'s -> (B, D) value tokens. Gradients flow where the copies' weights ask for them."""
        ...


def _padded(tokenizer: PreTrainedTokenizerBase, encoder: T5EncoderModel, texts: Sequence[str], length: int) -> Tensor:
    """(B, L, D) T5 tokens of texts padded to `length`; nothing hides the padding, as the pipelines have it."""
    ids = tokenizer(
        list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return encoder(ids.to(encoder.device))[0]


@dataclass(frozen=True, eq=False)
class ProjectedClip:
    """A CLIP text encoder with its projection: last but one hidden states, and the projected embedding."""

    tokenizer: CLIPTokenizer
    encoder: CLIPTextModelWithProjection

    def read(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """(B, 77, D) tokens, and (B, P) of the whole texts."""
        ids = tokenize_all(self.tokenizer, texts, length).to(self.encoder.device)
        states = self.encoder(ids, output_hidden_states=True)
        return states.hidden_states[-2], states.text_embeds

    def state(self, ids: Tensor) -> Tensor:
        """(B, 77) ids -> (B, D) final-normed hidden states at the first end-of-text tokens, before the projection."""
        return self.encoder.text_model(ids.to(self.encoder.device)).pooler_output


@dataclass(frozen=True, eq=False)
class ClipsAndT5:
    """Two CLIP text encoders side by side and T5 behind them in one sequence: Stable Diffusion 3.

    77 tokens of both CLIPs, filled with zeros to T5's width, then T5's 256; zeros in their place where the model comes
    without T5. The pooled embedding is both CLIPs'. The value encoder is a copy of the two CLIPs: T5 has six times
    their weights, and the model was trained to draw without it as well.

    Attributes:
        width: D of the denoiser's tokens.
        t5: tokenizer and encoder, or None.
        t5_length: its tokens.

    Source:
        Esser et al. 2024 (arXiv 2403.03206), Sec. 4 and 5.3.3 (texts without T5).
    """

    first: ProjectedClip
    second: ProjectedClip
    t5: tuple[PreTrainedTokenizerBase, T5EncoderModel] | None
    width: int
    t5_length: int

    @property
    def pooled_width(self) -> int:
        return self.first.encoder.config.projection_dim + self.second.encoder.config.projection_dim

    @property
    def _clip_length(self) -> int:
        return self.first.tokenizer.model_max_length

    @property
    def max_length(self) -> int:
        return self._clip_length + self.t5_length

    @property
    def copied(self) -> dict[str, PreTrainedModel]:
        return {"text_encoder": self.first.encoder, "text_encoder_2": self.second.encoder}

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        return self.copied if self.t5 is None else {**self.copied, "text_encoder_3": self.t5[1]}

    def read(self, prompt: str) -> str:
        """T5 reads further than the CLIPs, where there is one."""
        if self.t5 is None:
            return read_part(self.first.tokenizer, prompt, self._clip_length)
        return read_part(self.t5[0], prompt, self.t5_length)

    @torch.no_grad()
    def conditions(self, prompts: Sequence[str]) -> list[Conditioning]:
        read = [clip.read(prompts, self._clip_length) for clip in (self.first, self.second)]
        clips = self._filled(torch.cat([tokens for tokens, _ in read], dim=-1))
        rest = clips.new_zeros(len(clips), self.t5_length, self.width)
        if self.t5 is not None:
            rest = _padded(*self.t5, prompts, self.t5_length).to(clips)
        whole = torch.cat([pooled for _, pooled in read], dim=-1)
        return [
            Conditioning(tokens, pooled=pooled)
            for tokens, pooled in zip(torch.cat([clips, rest], dim=1), whole, strict=True)
        ]

    def _filled(self, tokens: Tensor) -> Tensor:
        """(..., d) -> (..., D), with zeros."""
        return pad(tokens, (0, self.width - tokens.shape[-1]))

    def value_ids(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        return tuple(tokenize_all(clip.tokenizer, texts, self._clip_length) for clip in (self.first, self.second))

    def values(self, *ids: Tensor) -> Tensor:
        states = [clip.state(own) for clip, own in zip((self.first, self.second), ids, strict=True)]
        return self._filled(torch.cat(states, dim=-1))

    @torch.no_grad()
    def value(self, text: str) -> Tensor:
        """(D,): both CLIPs' states side by side, before their projections, and zeros, as their tokens have them."""
        return self.values(*self.value_ids([text]))[0]

    def over(self, encoders: Mapping[str, PreTrainedModel]) -> ClipsAndT5:
        first = ProjectedClip(self.first.tokenizer, encoders["text_encoder"])
        return replace(self, first=first, second=ProjectedClip(self.second.tokenizer, encoders["text_encoder_2"]))

    def knows(self, word: str) -> bool:
        return f"{word}</w>" in self.first.tokenizer.get_vocab()


@dataclass(frozen=True, eq=False)
class T5AndPooledClip:
    """T5's tokens, padded to their full length, and CLIP's end-of-text state as the pooled embedding: Flux.

    The value encoder is a copy of T5, whose tokens alone the blocks attend to. Its texts are not padded.
    """

    clip: ClipText
    tokenizer: PreTrainedTokenizerBase
    encoder: T5EncoderModel

    @property
    def width(self) -> int:
        return self.encoder.config.d_model

    @property
    def pooled_width(self) -> int:
        return self.clip.width

    @property
    def max_length(self) -> int:
        return self.tokenizer.model_max_length

    @property
    def copied(self) -> dict[str, PreTrainedModel]:
        return {"text_encoder_2": self.encoder}

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        return {**self.clip.encoders, **self.copied}

    def read(self, prompt: str) -> str:
        return read_part(self.tokenizer, prompt, self.max_length)

    @torch.no_grad()
    def conditions(self, prompts: Sequence[str]) -> list[Conditioning]:
        tokens = _padded(self.tokenizer, self.encoder, prompts, self.max_length)
        whole = self.clip.values(prompts).to(tokens)
        return [Conditioning(own, pooled=pooled) for own, pooled in zip(tokens, whole, strict=True)]

    def value_ids(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        return (
            self.tokenizer(
                list(texts), padding="longest", max_length=self.max_length, truncation=True, return_tensors="pt"
            ).input_ids,
        )

    def values(self, *ids: Tensor) -> Tensor:
        (own,) = (part.to(self.encoder.device) for part in ids)
        mask = own != self.tokenizer.pad_token_id
        states = self.encoder(own, attention_mask=mask.long())[0]
        return states[torch.arange(len(own), device=own.device), mask.sum(1) - 1]  # the end token, which cutting keeps

    @torch.no_grad()
    def value(self, text: str) -> Tensor:
        return self.values(*self.value_ids([text]))[0]

    def over(self, encoders: Mapping[str, PreTrainedModel]) -> T5AndPooledClip:
        return replace(self, encoder=encoders["text_encoder_2"])

    def knows(self, word: str) -> bool:
        return self.clip.knows(word)
