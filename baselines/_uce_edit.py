"""The mathematics of Unified Concept Editing: which tokens are edited, where they shall go, and the closed form.

Everything is float64 on the CPU: Gram matrices of CLIP's embeddings are ill-conditioned against the ridge of 0.5.

    W* = (r W + e sum_i v_i c_i^T + p sum_j W c_j c_j^T) (r I + e sum_i c_i c_i^T + p sum_j c_j c_j^T)^-1

for every `to_k` and `to_v` of attn2: c_i edited tokens, v_i their new values, c_j preserved tokens; ridge r = 0.5,
scales e = 1 and p.

Two published forms differ in tokens and targets, and `train.uce` runs both:

| | 2023 | 2025 |
|---|---|---|
| edited tokens | from a text's last content token to the end, padding included | the last content token |
| erasing | onto the guide's tokens, the guide being " " | onto the guide's token, the guide being "" |
| preserved while erasing | the 77 tokens of "", p = 1 | nothing |
| debiasing, each round | from the weights as edited so far | targets add up, weights are solved from the original |
| preserved while debiasing | the 77 tokens of each unedited concept, p = 0.1 | nothing |

The guides " " and "" have no content token: their "last" one is the start of text, and that is what erasing moves to.

Source:
    Gandikota et al. 2024, "Unified Concept Editing in Diffusion Models" (arXiv 2308.14761), eq. 7; the ridge, the
    scales and the token blocks as in the official releases of 2023 and 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from livo.diffusion.engine import Engine
from livo.types import InputError

RIDGE = 0.5
EDIT_SCALE = 1.0


@dataclass(frozen=True)
class EmbeddedText:
    """A text as an edit reads it.

    Attributes:
        embeds: (77, D) float64 token embeddings on the CPU.
        last: place of its last content token; 0, the start of text, where it has none.
    """

    embeds: Tensor
    last: int


@dataclass(frozen=True)
class EditedText:
    """A text to be debiased: (n, D) tokens, as many of each attribute in K `attributes`, and the text itself."""

    tokens: Tensor
    attributes: tuple[Tensor, ...]
    text: EmbeddedText


def read_text(engine: Engine, text: str) -> EmbeddedText:
    """The text's tokens, padded to the backbone's length."""
    backbone = engine.backbone
    ids = backbone.tokenizer(text, truncation=True, max_length=backbone.max_length).input_ids
    return EmbeddedText(engine.encode_prompt(text).to("cpu", torch.float64), len(ids) - 2)


def check_concepts(engine: Engine, concepts: Sequence[str]) -> None:
    """An edit needs something to edit.

    Raises:
        InputError: there is no concept, one stands there twice, or one holds no token.
    """
    if not concepts:
        raise InputError("there is no concept to edit: give at least one")
    for i, concept in enumerate(concepts):
        if read_text(engine, concept).last < 1:
            raise InputError(f"concept {concept!r} holds no word that the tokenizer knows: leave it out or reword it")
        if concept in concepts[:i]:
            raise InputError(f"concept {concept!r} stands there twice: give each once")


def blocks_to_the_end(texts: Sequence[EmbeddedText]) -> list[Tensor]:
    """From each text's last content token towards the end, all of one length: (77 - F, D) with F the largest `last`."""
    furthest = max(text.last for text in texts)
    return [text.embeds[text.last : len(text.embeds) - (furthest - text.last)] for text in texts]


def last_tokens(texts: Sequence[EmbeddedText]) -> list[Tensor]:
    """Each text's last content token, (1, D)."""
    return [text.embeds[text.last : text.last + 1] for text in texts]


Blocks = Callable[[Sequence[EmbeddedText]], list[Tensor]]
"""`blocks_to_the_end` (2023) or `last_tokens` (2025)."""


def solve(
    weights: Mapping[str, Tensor],
    tokens: Tensor,
    values: Callable[[Tensor], Tensor],
    preserve: Tensor | None = None,
    preserve_scale: float = 1.0,
) -> dict[str, Tensor]:
    """The closed form above, for all weights at once: the Gram matrix is theirs in common.

    Args:
        weights: (out, D) by name.
        tokens: (n, D), the c_i.
        values: of one (out, D) weight, the (n, out) v_i there.
        preserve: (m, D), the c_j.
        preserve_scale: p.

    Returns:
        The edited weights in float64, by the same names.
    """
    tokens = tokens.double()
    kept = torch.zeros_like(tokens[:0]) if preserve is None else preserve.double()
    kept_gram = preserve_scale * kept.T @ kept
    gram = EDIT_SCALE * tokens.T @ tokens + kept_gram + RIDGE * torch.eye(tokens.shape[1], dtype=torch.float64)
    factor = torch.linalg.cholesky(gram)
    edited = {}
    for name, weight in weights.items():
        weight = weight.detach().to("cpu", torch.float64)
        right = RIDGE * weight + EDIT_SCALE * values(weight).T @ tokens + weight @ kept_gram
        edited[name] = torch.cholesky_solve(right.T, factor).T.contiguous()
    return edited


# --- erasing --------------------------------------------------------------------------------------------------------


def erase_2023(engine: Engine, weights: Mapping[str, Tensor], concepts: Sequence[str]) -> dict[str, Tensor]:
    """Maps each concept's tokens onto those of " ". The release's default, `replace`; its other technique is left out.

    Raises:
        InputError: as `check_concepts`.
    """
    return _erase(engine, weights, concepts, " ", blocks_to_the_end, read_text(engine, "").embeds)


def erase_2025(engine: Engine, weights: Mapping[str, Tensor], concepts: Sequence[str]) -> dict[str, Tensor]:
    """Maps each concept's last token onto the start of text, and preserves nothing.

    Raises:
        InputError: as `check_concepts`.
    """
    return _erase(engine, weights, concepts, "", last_tokens, None)


def _erase(
    engine: Engine,
    weights: Mapping[str, Tensor],
    concepts: Sequence[str],
    guide: str,
    blocks: Blocks,
    preserve: Tensor | None,
) -> dict[str, Tensor]:
    check_concepts(engine, concepts)
    pairs = [blocks([read_text(engine, concept), read_text(engine, guide)]) for concept in concepts]
    tokens, targets = (torch.cat(side) for side in zip(*pairs, strict=True))
    return solve(weights, tokens, lambda weight: targets @ weight.T, preserve)


# --- debiasing ------------------------------------------------------------------------------------------------------


def aliased_values(weight: Tensor, edited: EditedText, shifts: Sequence[float]) -> Tensor:
    """Values of the 2023 form: T <- T + delta_j ||T||_F U_j for j = 1..K, from T = C W^T, with unit U_j of attribute j.

    The norm is that of the running T and not of C W^T: the release adds in place to the tensor whose norm it takes.

    Args:
        weight: (out, D), as edited so far.
        shifts: K numbers delta_j; all 0 leaves the text where it is.

    Returns:
        (n, out).
    """
    values = edited.tokens @ weight.T
    for tokens, shift in zip(edited.attributes, shifts, strict=True):
        direction = tokens @ weight.T
        values = values + shift * values.norm() * direction / direction.norm()
    return values


def moved_tokens(edited: EditedText, coefficients: Sequence[float]) -> Tensor:
    """(n, D) targets of the 2025 form before W: v* = W (c + sum_j a_j attribute_j), the a_j summed over the rounds."""
    moved = edited.tokens
    for tokens, coefficient in zip(edited.attributes, coefficients, strict=True):
        moved = moved + coefficient * tokens
    return moved


def debias_2023(
    weights: Mapping[str, Tensor],
    texts: Sequence[EditedText],
    shifts: Sequence[Sequence[float]],
    preserve: Tensor | None,
    preserve_scale: float = 0.1,
) -> dict[str, Tensor]:
    """One round of the 2023 form: from the weights as edited so far, each text by its own `aliased_values`."""

    def values(weight: Tensor) -> Tensor:
        return torch.cat([aliased_values(weight, text, row) for text, row in zip(texts, shifts, strict=True)])

    return solve(weights, torch.cat([text.tokens for text in texts]), values, preserve, preserve_scale)


def debias_from_original(
    weights: Mapping[str, Tensor],
    texts: Sequence[EditedText],
    coefficients: Sequence[Sequence[float]],
    preserve: Tensor | None = None,
    preserve_scale: float = 1.0,
) -> dict[str, Tensor]:
    """The edit whose targets are `moved_tokens`, from the original weights: nothing compounds."""
    targets = torch.cat([moved_tokens(text, row) for text, row in zip(texts, coefficients, strict=True)])
    tokens = torch.cat([text.tokens for text in texts])
    return solve(weights, tokens, lambda weight: targets @ weight.T, preserve, preserve_scale)
