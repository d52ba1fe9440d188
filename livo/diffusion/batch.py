"""From plans to the rows of denoiser calls: equal work is found here, once, and done once.

A job is one image to sample. Jobs are equal when nothing that reaches a pixel differs, whatever the method is called:
that makes LiVO without a principle the very image of Stable Diffusion, at no cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from livo.diffusion.attention import KVGroup, project_texts
from livo.diffusion.denoisers import Denoiser
from livo.types import Conditioning, Guide, Plan

TextKey = tuple[str, str]
"""A conditioning by content: digest of its embeddings (tokens and pooled), name of its projection."""


Bank = dict[TextKey, tuple[int, int, Mapping[str, tuple[Tensor, Tensor]]]]
"""By text: its length, its place among the texts of that length, and their keys and values by layer."""


@dataclass(frozen=True)
class Job:
    """One image: what it starts from, what it reads by branch, how predictions are combined, in which trunk."""

    seed: int
    branches: tuple[tuple[str, TextKey], ...]
    guide: Guide
    trunk: str


@dataclass(frozen=True)
class Batch:
    """The distinct jobs of a run.

    Attributes:
        jobs: J distinct jobs.
        images: by plan name, the job of each of its N images.
        texts: what each key stands for.
    """

    jobs: tuple[Job, ...]
    images: Mapping[str, tuple[int, ...]]
    texts: Mapping[TextKey, Conditioning]


@dataclass(frozen=True)
class Call:
    """One call of a denoiser.

    Attributes:
        index: (rows,) whose latents each row denoises.
        text_kv: what each row reads.
        conditions: what the denoiser takes besides, the same at every step (`Denoiser.conditions`).
    """

    denoiser: Denoiser
    index: Tensor
    text_kv: tuple[KVGroup, ...]
    conditions: Mapping[str, Any]


@dataclass(frozen=True)
class GuideGroup:
    """Jobs that one guide combines together: `index` (n,) names them, `rows` the (n,) predictions by branch."""

    guide: Guide
    index: Tensor
    rows: Mapping[str, Tensor]


def digest(embeds: Tensor) -> str:
    """Content of a tensor: equal shapes, dtypes and bytes give equal digests."""
    data = embeds.detach().contiguous().cpu()
    head = f"{tuple(data.shape)} {data.dtype} ".encode()
    return hashlib.sha256(head + data.view(torch.uint8).numpy().tobytes()).hexdigest()


def collect(plans: Mapping[str, Plan]) -> Batch:
    """The distinct jobs of plans that were found valid."""
    jobs: dict[Job, int] = {}
    images: dict[str, tuple[int, ...]] = {}
    texts: dict[TextKey, Conditioning] = {}
    seen: dict[int, str] = {}  # by id, safe while the plans live: most rows share a few tensors

    def seen_digest(embeds: Tensor) -> str:
        if id(embeds) not in seen:
            seen[id(embeds)] = digest(embeds)
        return seen[id(embeds)]

    def key_of(conditioning: Conditioning) -> TextKey:
        parts = [part for part in (conditioning.prompt_embeds, conditioning.pooled) if part is not None]
        key = (" ".join(map(seen_digest, parts)), conditioning.projection)
        texts.setdefault(key, conditioning)
        return key

    for name, plan in plans.items():
        keys = {branch: [key_of(c) for c in plan.branches[branch]] for branch in sorted(plan.branches)}
        images[name] = tuple(
            jobs.setdefault(
                Job(seed, tuple((b, k[i if len(k) > 1 else 0]) for b, k in keys.items()), plan.guide, plan.trunk),
                len(jobs),
            )
            for i, seed in enumerate(plan.options.seeds)
        )
    return Batch(tuple(jobs), images, texts)


def equal_starts(batch: Batch) -> list[int]:
    """By job, the first job of its trunk with the same seed: their latents are equal until their guides disagree."""
    first: dict[tuple[int, str], int] = {}
    return [first.setdefault((job.seed, job.trunk), j) for j, job in enumerate(batch.jobs)]


def still_equal(leads: Sequence[int], latents: Tensor) -> list[int]:
    """By job, the first job among those that shared latents with it whose (J, C, h, w) latents still are the same."""
    found: list[int] = []
    for j, lead in enumerate(leads):
        mates = (k for k in range(lead, j) if leads[k] == lead and found[k] == k) if lead != j else ()
        found.append(next((k for k in mates if torch.equal(latents[k], latents[j])), j))
    return found


def lay_out(
    batch: Batch,
    banks: Mapping[str, Bank],
    leads: Sequence[int],
    trunks: Mapping[str, Denoiser],
    size: tuple[int, int],
    latent_size: tuple[int, int],
    memory_budget: int,
) -> tuple[list[Call], list[GuideGroup]]:
    """The denoiser calls of a solver step and who combines their rows, in an order that `leads` does not change.

    Jobs with equal latents that read the same text share its row. So methods share the empty prompt's row at the first
    step, and Fair Diffusion rides on Stable Diffusion's rows for as long as it has not begun to edit.

    Args:
        batch: the jobs.
        banks: `project`'s, by trunk.
        leads: by job, the job whose latents its own are equal to; itself where there is none.
        trunks: denoisers by name, "base" among them.
        size: (H, W) of the images.
        latent_size: (h, w).
        memory_budget: bytes of activations that one call may take, by `Denoiser.row_bytes`'s estimate; at least one row
            runs.
    """
    calls: list[Call] = []
    row_of: dict[tuple[int, TextKey], int] = {}
    for trunk, bank in banks.items():
        denoiser, device = trunks[trunk], trunks[trunk].net.device
        jobs = [(leads[j], job) for j, job in enumerate(batch.jobs) if job.trunk == trunk]
        rows = list(dict.fromkeys((lead, key) for lead, job in jobs for _, key in job.branches))
        # Rows of one length are neighbours, so that each length is a slice of its call.
        rows.sort(key=lambda row: len(batch.texts[row[1]].prompt_embeds))
        most = max(1, memory_budget // denoiser.row_bytes(*latent_size))
        for chunk in _even_chunks(rows, most):
            for row in chunk:
                row_of[row] = len(row_of)
            index = torch.tensor([j for j, _ in chunk], device=device)
            pooled = _pooled([batch.texts[key] for _, key in chunk], denoiser)
            groups = _groups([key for _, key in chunk], bank, device)
            calls.append(Call(denoiser, index, groups, denoiser.conditions(len(chunk), pooled, size)))

    members: dict[tuple[Guide, tuple[str, ...], str], list[int]] = {}
    for j, job in enumerate(batch.jobs):
        members.setdefault((job.guide, tuple(b for b, _ in job.branches), job.trunk), []).append(j)
    device = trunks["base"].net.device
    groups = []
    for (guide, branches, _), index in members.items():
        texts = [dict(batch.jobs[j].branches) for j in index]
        rows = {
            b: torch.tensor([row_of[leads[j], text[b]] for j, text in zip(index, texts, strict=True)], device=device)
            for b in branches
        }
        groups.append(GuideGroup(guide, torch.tensor(index, device=device), rows))
    return calls, groups


def project(
    batch: Batch, trunks: Mapping[str, Denoiser], projections: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Bank]:
    """Keys and values of every text, once a run, by trunk.

    Args:
        projections: edited K,V weights by name.
    """
    banks: dict[str, Bank] = {}
    for trunk in dict.fromkeys(job.trunk for job in batch.jobs):
        keys = dict.fromkeys(key for job in batch.jobs if job.trunk == trunk for _, key in job.branches)
        banks[trunk] = _bank(trunks[trunk], {key: batch.texts[key].prompt_embeds for key in keys}, projections)
    return banks


def _bank(denoiser: Denoiser, texts: Mapping[TextKey, Tensor], projections: Mapping[str, Mapping[str, Tensor]]) -> Bank:
    bank: Bank = {}
    unet = denoiser.net
    for length in sorted({len(embeds) for embeds in texts.values()}):
        keys = sorted((k for k in texts if len(texts[k]) == length), key=lambda k: k[1])
        parts = []
        for projection in dict.fromkeys(name for _, name in keys):
            embeds = torch.stack([texts[k] for k in keys if k[1] == projection]).to(unet.device, unet.dtype)
            weights = None if projection == "base" else projections[projection]
            parts.append(project_texts(unet, denoiser.read(embeds), weights))
        layers = {
            layer: (torch.cat([p[layer][0] for p in parts]), torch.cat([p[layer][1] for p in parts]))
            for layer in parts[0]
        }
        bank |= {key: (length, place, layers) for place, key in enumerate(keys)}
    return bank


def _pooled(texts: Sequence[Conditioning], denoiser: Denoiser) -> Tensor | None:
    """(rows, P), or None where the denoiser reads none."""
    if not denoiser.pooled_width:
        return None
    return torch.stack([text.pooled for text in texts]).to(denoiser.net.device, denoiser.net.dtype)


def _groups(keys: Sequence[TextKey], bank: Bank, device: torch.device) -> tuple[KVGroup, ...]:
    """The length groups of one call whose rows read `keys`, sorted by length."""
    groups, start = [], 0
    for length in dict.fromkeys(bank[key][0] for key in keys):
        places = [bank[key][1] for key in keys if bank[key][0] == length]
        layers = next(bank[key][2] for key in keys if bank[key][0] == length)
        groups.append(KVGroup(slice(start, start + len(places)), torch.tensor(places, device=device), layers))
        start += len(places)
    return tuple(groups)


def _even_chunks(rows: Sequence, most: int) -> list[Sequence]:
    """As few chunks of at most `most` as there can be, of sizes that differ by one at the most."""
    count = -(-len(rows) // most)
    edges = [len(rows) * i // count for i in range(count + 1)]
    return [rows[a:b] for a, b in zip(edges, edges[1:], strict=False)]
