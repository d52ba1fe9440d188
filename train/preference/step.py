"""One step of preference training: from pairs to the gradient at the value tokens, in two ways.

`FastStep` takes every exact saving; `OfficialStep` does what the official trainer does, for parity and for comparison.
Both leave the gradient of the mean loss in E^v's parameters and return the same four errors.

Exact savings of the fast step: latents' moments, prompt embeddings and the reference's errors are computed once and
kept; one U-Net call has all rows, with each prompt's keys and values projected once; and rows whose loss has gradient 0
(past their margin) are found by a pass without gradients and left out of the pass with them, when enough of them are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from livo.diffusion.attention import KVGroup, gather, install, project_texts
from livo.diffusion.backbones import Backbone, tokenize
from livo.diffusion.denoisers import denoiser_of
from livo.diffusion.latents import scaled
from livo.methods.value_encoder import value_text
from train.edits.training import noise_schedule
from train.miniature.data import to_model_range
from train.preference.activity import Activity
from train.preference.chunks import Chunks, ReferenceCache
from train.preference.losses import PreferenceLoss, neutral_loss
from train.preference.pairs import PreferenceRow, PreferenceSet


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of the predicted noise, (B,) each, the losses they give, and which rows are neutral."""

    mse_w: Tensor
    ref_mse_w: Tensor
    mse_l: Tensor
    ref_mse_l: Tensor
    losses: Tensor
    neutral: Tensor


@dataclass(frozen=True)
class Draw:
    """What is drawn for one visit to a row; all of it by seed, row and number of the draw.

    Attributes:
        loser: the dispreferred picture's number.
        flips: whether to mirror the preferred and the dispreferred picture.
        t: timestep, 0 to 999.
        posterior: (2, C, h, w) noise of the VAE's posterior, preferred picture first.
        noise: (C, h, w), for both pictures.
    """

    loser: int
    flips: tuple[bool, bool]
    t: int
    posterior: Tensor
    noise: Tensor


def draw_for(row: PreferenceRow, index: int, number: int, seed: int, shape: Sequence[int]) -> Draw:
    """The draw of this number for the row at this index; latents have `shape` (C, h, w)."""
    digest = hashlib.sha256(f"{seed} {index} {number}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    loser, flip_w, flip_l, t = (int(torch.randint(n, (1,), generator=generator)) for n in (len(row.losers), 2, 2, 1000))
    posterior = torch.randn(2, *shape, generator=generator)
    return Draw(row.losers[loser], (bool(flip_w), bool(flip_l)), t, posterior, torch.randn(*shape, generator=generator))


def add_noise(alphas_cumprod: Tensor, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """(N, C, h, w) latents at their N timesteps."""
    alphas = alphas_cumprod.to(torch.promote_types(latents.dtype, torch.float32))[t].view(-1, 1, 1, 1)
    return (alphas.sqrt() * latents + (1 - alphas).sqrt() * noise).to(latents.dtype)


def denoising_errors(
    unet: UNet2DConditionModel, alphas_cumprod: Tensor, latents: Tensor, noise: Tensor, t: Tensor, context: Tensor
) -> Tensor:
    """(N,) mean squared errors of the predicted noise, one per latent; N timesteps, contexts (N, L, D)."""
    predicted = unet(add_noise(alphas_cumprod, latents, noise, t), t, context).sample
    return (wide(predicted) - wide(noise)).square().mean((1, 2, 3))


def wide(x: Tensor) -> Tensor:
    """At least float32: errors differ by a thousandth, which half precision does not hold."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def loss_gradients(
    loss: PreferenceLoss, mse_w: Tensor, ref_mse_w: Tensor, mse_l: Tensor, ref_mse_l: Tensor, neutral: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) losses, and their derivatives by mse_w and by mse_l; a hinge past its margin has derivative 0.

    Args:
        neutral: (B,) bool, rows that are to change nothing: theirs is `neutral_loss`.
    """
    with torch.enable_grad():
        at_w, at_l = mse_w.detach().requires_grad_(), mse_l.detach().requires_grad_()
        losses = loss(at_w, ref_mse_w, at_l, ref_mse_l)
        if neutral.any():
            losses = torch.where(neutral, neutral_loss(at_w, ref_mse_w, at_l, ref_mse_l), losses)
        found = torch.autograd.grad(losses.sum(), (at_w, at_l), allow_unused=True)
    by_w, by_l = (torch.zeros_like(mse_w) if gradient is None else gradient for gradient in found)
    return losses.detach(), by_w, by_l


class Pooled(nn.Module):
    """E^v as data-parallel training wraps it: (B, L) ids -> (B, D) value tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids, return_dict=False)[1]


@dataclass(frozen=True, eq=False)
class StepContext:
    """What both steps stand on.

    Attributes:
        pooled: E^v, perhaps wrapped by `accelerator.prepare`.
        micro_batch: pairs whose U-Net rows take one pass together; 0 is all.
    """

    backbone: Backbone
    data: PreferenceSet
    pooled: nn.Module
    loss: PreferenceLoss
    accelerator: Accelerator
    latent_shape: tuple[int, int, int]
    seed: int
    micro_batch: int

    @cached_property
    def alphas(self) -> Tensor:
        """(1000,) cumulative."""
        return noise_schedule(self.backbone)

    def neutral(self, indices: Sequence[int]) -> Tensor:
        """(B,) bool."""
        return torch.tensor([self.data.rows[i].neutral for i in indices], device=self.backbone.device)

    def tokens(self, rows: Sequence[PreferenceRow], *, cut: bool) -> Tensor:
        """(B, D) value tokens with gradients.

        Args:
            cut: leave out the padding that all texts share; E^v is causal, so the token stays the same.
        """
        texts = [value_text(row.principle.text, row.prompt) for row in rows]
        ids = torch.cat([tokenize(self.backbone.tokenizer, text, self.backbone.max_length) for text in texts])
        if cut:
            end = (ids == self.backbone.tokenizer.eos_token_id).int().argmax(1).max()
            ids = ids[:, : int(end) + 1]
        with self.accelerator.autocast():
            return wide(self.pooled(ids.to(self.backbone.device)))

    def latents(self, moments: Tensor, posterior: Tensor) -> Tensor:
        """(N, 2 C, h, w) moments, (N, C, h, w) noise -> scaled latents; diffusers' posterior, its clamp included."""
        mean, log_variance = moments.to(self.backbone.device).chunk(2, dim=1)
        std = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
        return scaled(self.backbone.vae, mean + std * posterior.to(mean))


@torch.no_grad()
def image_moments(backbone: Backbone, images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 2 C, h, w): mean and log variance of the VAE's posterior."""
    vae, x = backbone.vae, to_model_range(images).to(backbone.device, backbone.dtype)
    moments = vae.encoder(x)
    return moments if vae.quant_conv is None else vae.quant_conv(moments)


Texts = Any
"""What the denoiser reads of texts: keys and values by layer, or tokens (`FlowStep`)."""


class FastStep:
    """Every exact saving.

    Args:
        moments: of the pictures, (2 C, h, w) each.
        references: where to keep the reference's errors on y_w and y_l; None computes them in the step, in the same
            U-Net call.
        activity: whether to look first, measured as training goes.
    """

    def __init__(self, context: StepContext, moments: Chunks, references: Path | None, activity: Activity) -> None:
        self.s, self.moments, self.activity = context, moments, activity
        self.references: ReferenceCache | None = None
        if references is not None:
            self.references = ReferenceCache(references, len(context.data.rows), self.reference_errors)
        self._moments_whole = False
        self._embeds: dict[str, Tensor] = {}
        if denoiser_of(context.backbone.unet).reads_projected:
            install(context.backbone.unet)

    def prepare(self, draws: Iterable[int]) -> None:
        """What rows with these draws read and nobody has computed yet, whichever process has it. All meet here."""
        accelerator = self.s.accelerator
        here = accelerator.process_index, accelerator.num_processes
        if not self._moments_whole:
            self.moments.fill("latents", *here)
            self._moments_whole = True
            accelerator.wait_for_everyone()
        if self.references is not None and self.references.fill(draws, *here):
            accelerator.wait_for_everyone()

    @torch.no_grad()
    def embeds(self, prompts: Sequence[str]) -> Tensor:
        """(B, 77, D), each distinct prompt encoded once a training."""
        backbone = self.s.backbone
        if new := [p for p in dict.fromkeys(prompts) if p not in self._embeds]:
            ids = torch.cat([backbone.tokenize(prompt) for prompt in new])
            self._embeds |= zip(new, backbone.text_encoder(ids).last_hidden_state, strict=True)
        return torch.stack([self._embeds[p] for p in prompts])

    def noised(self, indices: Sequence[int], draws: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """(2 B, C, h, w) noisy latents, y_w first, what is to be predicted, their noise, and (2 B,) timesteps."""
        latents, noise, found = self.pictures(indices, draws)
        t = torch.tensor([f.t for f in found], device=latents.device).repeat(2)
        return add_noise(self.s.alphas, latents, noise, t), noise, t

    def pictures(self, indices: Sequence[int], draws: Sequence[int]) -> tuple[Tensor, Tensor, list[Draw]]:
        """(2 B, C, h, w) latents, y_w first, their noise, and the draws."""
        rows = [self.s.data.rows[i] for i in indices]
        found = [
            draw_for(row, i, d, self.s.seed, self.s.latent_shape)
            for row, i, d in zip(rows, indices, draws, strict=True)
        ]
        posterior = torch.cat([torch.stack([f.posterior[side] for f in found]) for side in (0, 1)])
        latents = self.s.latents(self.moments.rows([r.winner for r in rows] + [f.loser for f in found]), posterior)
        return latents, torch.stack([f.noise for f in found]).repeat(2, 1, 1, 1).to(latents), found

    def value_tokens(self, rows: Sequence[PreferenceRow]) -> Tensor:
        """(B, D) value tokens with gradients."""
        return self.s.tokens(rows, cut=True)

    def errors(self, noisy: Tensor, target: Tensor, t: Tensor, texts: Sequence[tuple[Texts, Tensor]]) -> Tensor:
        """(N,) errors of one U-Net call; for each pair of texts and (n,) index the next n rows read the texts named."""
        groups, first = [], 0
        for layers, index in texts:
            groups.append(KVGroup(slice(first, first + len(index)), gather(layers, index)))
            first += len(index)
        mark = noisy.new_zeros(len(noisy), 1, 1)
        predicted = self.s.backbone.unet(noisy, t, mark, cross_attention_kwargs={"text_kv": tuple(groups)}).sample
        return (wide(predicted) - wide(target)).square().mean((1, 2, 3))

    @torch.no_grad()
    def reference_errors(self, indices: Sequence[int], draws: Sequence[int]) -> Tensor:
        """(B, 2) errors of the reference on y_w and y_l; one forward pass."""
        noisy, target, t = self.noised(indices, draws)
        index = torch.arange(len(indices), device=noisy.device).repeat(2)
        return self.errors(noisy, target, t, [(self.plain(indices), index)]).view(2, -1).T

    def __call__(self, indices: Sequence[int], draws: Sequence[int]) -> Errors:
        """One pass over B rows, each with its draw; adds the mean loss's gradient to E^v's parameters."""
        rows = [self.s.data.rows[i] for i in indices]
        tokens = self.value_tokens(rows)
        at_tokens = tokens.detach().requires_grad_()
        known = None if self.references is None else self.references(indices, draws).to(tokens)
        size = self.s.micro_batch or len(rows)
        parts = []
        for first in range(0, len(rows), size):
            part = slice(first, first + size)
            forward_backward = self._look_first if self.activity.look_first else self._all_rows
            mine = None if known is None else known[part]
            parts.append(forward_backward(indices[part], draws[part], at_tokens[part], mine, len(rows)))
        joined = Errors(*(torch.cat([getattr(p, name) for p in parts]) for name in Errors.__dataclass_fields__))
        gradient = torch.zeros_like(tokens) if at_tokens.grad is None else at_tokens.grad
        # One backward pass through E^v whatever the micro-batches, also where no row had a gradient: processes meet.
        self.s.accelerator.backward((tokens * (gradient / self._scale())).sum())
        return joined

    def _scale(self) -> float:
        """float16 needs its gradients scaled on their way through the U-Net too."""
        scaler = getattr(self.s.accelerator, "scaler", None)
        return 1.0 if scaler is None else scaler.get_scale()

    @torch.no_grad()
    def plain(self, indices: Sequence[int]) -> Texts:
        """Of the rows' prompts."""
        return project_texts(self.s.backbone.unet, self.embeds([self.s.data.rows[i].prompt for i in indices]), None)

    def steered(self, plain: Texts, at_tokens: Tensor) -> Texts:
        """Of value token + prompt."""
        first = project_texts(self.s.backbone.unet, at_tokens[:, None].to(self.s.backbone.dtype), None)
        return {
            name: (torch.cat([first[name][0], k], dim=2), torch.cat([first[name][1], v], dim=2))
            for name, (k, v) in plain.items()
        }

    def _all_rows(
        self, indices: Sequence[int], draws: Sequence[int], at_tokens: Tensor, known: Tensor | None, count: int
    ) -> Errors:
        noisy, target, t = self.noised(indices, draws)
        if known is None:
            known = self.reference_errors(indices, draws)
        index = torch.arange(len(indices), device=noisy.device).repeat(2)
        found = self.errors(noisy, target, t, [(self.steered(self.plain(indices), at_tokens), index)])
        return self._descend(found, known, count, self.s.neutral(indices))

    def _look_first(
        self, indices: Sequence[int], draws: Sequence[int], at_tokens: Tensor, known: Tensor | None, count: int
    ) -> Errors:
        noisy, target, t = self.noised(indices, draws)
        plain = self.plain(indices)
        steered = self.steered(plain, at_tokens)
        n, index = len(noisy), torch.arange(len(indices), device=noisy.device).repeat(2)
        with torch.no_grad():
            if known is None:
                twice = noisy.repeat(2, 1, 1, 1), target.repeat(2, 1, 1, 1), t.repeat(2)
                both = self.errors(*twice, [(steered, index), (plain, index)])
                seen, known = both[:n], both[n:].view(2, -1).T
            else:
                seen = self.errors(noisy, target, t, [(steered, index)])
        (mse_w, mse_l), (ref_w, ref_l) = seen.view(2, -1), known.T
        neutral = self.s.neutral(indices)
        losses, by_w, by_l = loss_gradients(self.s.loss, mse_w, ref_w, mse_l, ref_l, neutral)
        gradients = torch.cat([by_w, by_l])
        active = gradients.nonzero()[:, 0]
        self.activity.update(len(active) / n)
        if len(active):
            again = self.errors(noisy[active], target[active], t[active], [(steered, index[active])])
            ((gradients[active] * again).sum() * (self._scale() / count)).backward()
        return Errors(mse_w, ref_w, mse_l, ref_l, losses, neutral)

    def _descend(self, found: Tensor, known: Tensor, count: int, neutral: Tensor) -> Errors:
        (mse_w, mse_l), (ref_w, ref_l) = found.view(2, -1), known.T
        losses, by_w, by_l = loss_gradients(self.s.loss, mse_w, ref_w, mse_l, ref_l, neutral)
        gradients = torch.cat([by_w, by_l])
        self.activity.update(gradients.count_nonzero().item() / len(gradients))
        if gradients.count_nonzero():
            ((gradients * found).sum() * (self._scale() / count)).backward()
        return Errors(mse_w.detach(), ref_w, mse_l.detach(), ref_l, losses, neutral)


class OfficialStep:
    """As the official trainer: pictures read, mirrored and encoded anew, texts encoded anew, four U-Net calls."""

    def __init__(self, context: StepContext) -> None:
        self.s = context

    def prepare(self, draws: Iterable[int]) -> None:
        """Nothing is kept."""

    def __call__(self, indices: Sequence[int], draws: Sequence[int]) -> Errors:
        """As `FastStep`'s."""
        s, backbone = self.s, self.s.backbone
        rows = [s.data.rows[i] for i in indices]
        found = [draw_for(row, i, d, s.seed, s.latent_shape) for row, i, d in zip(rows, indices, draws, strict=True)]
        noise = torch.stack([f.noise for f in found]).to(backbone.device, backbone.dtype)
        t = torch.tensor([f.t for f in found], device=backbone.device)
        sides = []
        for side, numbers in enumerate(([row.winner for row in rows], [f.loser for f in found])):
            pictures = s.data.pictures(numbers)
            flips = [f.flips[side] for f in found]
            pictures = torch.stack([p.flip(-1) if flip else p for p, flip in zip(pictures, flips, strict=True)])
            sides.append(s.latents(image_moments(backbone, pictures), torch.stack([f.posterior[side] for f in found])))
        with torch.no_grad():
            ids = torch.cat([backbone.tokenize(row.prompt) for row in rows])
            prompt_embeds = backbone.text_encoder(ids).last_hidden_state
            ref_w, ref_l = (denoising_errors(backbone.unet, s.alphas, z, noise, t, prompt_embeds) for z in sides)
        tokens = s.tokens(rows, cut=False)
        context = torch.cat([tokens[:, None].to(prompt_embeds), prompt_embeds], dim=1)
        mse_w, mse_l = (denoising_errors(backbone.unet, s.alphas, z, noise, t, context) for z in sides)
        losses, neutral = s.loss(mse_w, ref_w, mse_l, ref_l), s.neutral(indices)
        if neutral.any():
            losses = torch.where(neutral, neutral_loss(mse_w, ref_w, mse_l, ref_l), losses)
        s.accelerator.backward(losses.mean())
        return Errors(mse_w.detach(), ref_w, mse_l.detach(), ref_l, losses.detach(), neutral)


Step = FastStep | OfficialStep


def numbers_of(errors: Errors, loss: PreferenceLoss) -> dict[str, Any]:
    """What a step reports, as tensors: the mean loss, and how far both sides have come.

    "past" is the share of pairs whose loss has no gradient on that side any more: past its margin.
    """
    found = errors.mse_w, errors.ref_mse_w, errors.mse_l, errors.ref_mse_l
    _, by_w, by_l = loss_gradients(loss, *found, errors.neutral)
    return {
        "loss": errors.losses.mean(),
        "chosen past": (by_w == 0).float().mean(),
        "rejected past": (by_l == 0).float().mean(),
        "chosen better": (errors.mse_w < errors.ref_mse_w).float().mean(),
        "rejected worse": (errors.mse_l > errors.ref_mse_l).float().mean(),
        "chosen drift": (errors.mse_w - errors.ref_mse_w).mean(),
        "rejected drift": (errors.mse_l - errors.ref_mse_l).mean(),
    }
