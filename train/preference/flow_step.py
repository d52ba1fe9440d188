"""Preference training on flow matching's loss: Stable Diffusion 3's and Flux's step.

The four errors of Eq. 6 are of velocities: the network shall predict noise - x_0 at x_s = (1 - s) x_0 + s noise. All
else is `FastStep`'s, but that texts are not projected once: they go through the network with every row.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from livo.diffusion.backbones import Backbone
from livo.diffusion.denoisers import denoiser_of
from livo.diffusion.joint_texts import TrainableText
from livo.diffusion.joint_transformers import JointTransformer
from livo.methods.value_encoder import TextValueEncoder, value_text
from train.preference.activity import Activity
from train.preference.chunks import Chunks
from train.preference.pairs import PreferenceRow
from train.preference.step import FastStep, StepContext, wide

UNGUIDED = 1.0
"""The guidance scale that a network which reads one is trained at: there it predicts the velocity of the data, which
the error is about; at a larger one what guidance would make of it."""


class ValueTokens(nn.Module):
    """E^v as data-parallel training wraps it: ids as `TrainableText.value_ids` gives them -> (B, D) value tokens."""

    def __init__(self, encoder: TextValueEncoder) -> None:
        super().__init__()
        self.model, self._text = encoder.model, encoder.trainable

    def forward(self, *ids: Tensor) -> Tensor:
        return self._text.values(*ids)


@dataclass(frozen=True)
class Tokens:
    """(U, L, D) tokens of U texts, and (U, P) pooled embeddings of their prompts."""

    prompt_embeds: Tensor
    pooled: Tensor


def share_of_noise(index: int, number: int, seed: int, shift: float) -> float:
    """s in (0, 1) of the draw of this number for the row at this index: logit-normal, and shifted toward noise.

    u = sigmoid(n) with n ~ N(0, 1), then s = shift u / (1 + (shift - 1) u); a shift of 1 leaves u.

    Source:
        Esser et al. 2024 (arXiv 2403.03206), Eq. 19 with m = 0 and s = 1, and Eq. 23.
    """
    digest = hashlib.sha256(f"share of noise {seed} {index} {number}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    u = torch.randn((), generator=generator, dtype=torch.float64).sigmoid().item()
    return shift * u / (1 + (shift - 1) * u)


def trained_shift(backbone: Backbone, latent_size: tuple[int, int]) -> float:
    """The shift toward noise that the backbone is sampled with at latents of (h, w)."""
    denoiser = denoiser_of(backbone.unet)
    assert isinstance(denoiser, JointTransformer)
    config = denoiser.solver(backbone.scheduler_config).from_config(dict(backbone.scheduler_config)).config
    return math.exp(denoiser.shift_of(config, latent_size)) if config["use_dynamic_shifting"] else config["shift"]


class FlowStep(FastStep):
    """As `FastStep`.

    Args:
        text: whose copies are trained.
    """

    def __init__(
        self, context: StepContext, text: TrainableText, moments: Chunks, references: Path | None, activity: Activity
    ) -> None:
        super().__init__(context, moments, references, activity)
        self.text = text
        self.denoiser = denoiser_of(context.backbone.unet)
        self.shift = trained_shift(context.backbone, context.latent_shape[1:])
        self._read: dict[str, tuple[Tensor, Tensor]] = {}

    def value_tokens(self, rows: Sequence[PreferenceRow]) -> Tensor:
        ids = self.text.value_ids([value_text(row.principle.text, row.prompt) for row in rows])
        with self.s.accelerator.autocast():
            return wide(self.s.pooled(*(part.to(self.s.backbone.device) for part in ids)))

    def noised(self, indices: Sequence[int], draws: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """(2 B, C, h, w) noisy latents, y_w first, the velocities to be predicted, and (2 B,) timesteps, 1000 s."""
        latents, noise, _ = self.pictures(indices, draws)
        shares = [share_of_noise(i, d, self.s.seed, self.shift) for i, d in zip(indices, draws, strict=True)]
        s = torch.tensor(shares, dtype=wide(latents).dtype, device=latents.device).repeat(2)
        at = s.view(-1, 1, 1, 1)
        return ((1 - at) * latents + at * noise).to(latents.dtype), noise - latents, 1000 * s

    def errors(self, noisy: Tensor, target: Tensor, t: Tensor, texts: Sequence[tuple[Tokens, Tensor]]) -> Tensor:
        """(N,) errors; a call for each pair of texts and (n,) index, whose texts the next n rows read."""
        predicted, first = [], 0
        scale = self.s.backbone.vae_scale
        size = noisy.shape[2] * scale, noisy.shape[3] * scale
        for tokens, index in texts:
            part = slice(first, first + len(index))
            scales = torch.full((len(index),), UNGUIDED, device=noisy.device) if self.denoiser.guides_itself else None
            conditions = self.denoiser.conditions(len(index), tokens.pooled[index], size, scales)
            predicted.append(self.denoiser(noisy[part], t[part], conditions, prompt_embeds=tokens.prompt_embeds[index]))
            first = part.stop
        return (wide(torch.cat(predicted)) - wide(target)).square().mean((1, 2, 3))

    @torch.no_grad()
    def plain(self, indices: Sequence[int]) -> Tokens:
        prompts = [self.s.data.rows[i].prompt for i in indices]
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._read]:
            for prompt, text in zip(new, self.s.backbone.text.conditions(new), strict=True):
                assert text.pooled is not None
                self._read[prompt] = text.prompt_embeds.cpu(), text.pooled.cpu()  # as many as there are prompts
        backbone = self.s.backbone
        embeds, pooled = (
            torch.stack([self._read[p][k] for p in prompts]).to(backbone.device, backbone.dtype) for k in (0, 1)
        )
        return Tokens(embeds, pooled)

    def steered(self, plain: Tokens, at_tokens: Tensor) -> Tokens:
        first = at_tokens[:, None].to(plain.prompt_embeds)
        return Tokens(torch.cat([first, plain.prompt_embeds], dim=1), plain.pooled)
