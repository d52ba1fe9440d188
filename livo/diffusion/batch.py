"""From plans to the rows of denoiser calls: equal work is found here, once, and done once.

A job is one image to sample. Jobs are equal when nothing that reaches a pixel differs, whatever the method is called:
that makes LiVO without a principle the very image of Stable Diffusion, at no cost.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from livo.diffusion.attention import KVGroup, LayerKV, gather, project_texts
from livo.diffusion.captured import CapturedCalls
from livo.diffusion.denoiser import Denoiser
from livo.diffusion.denoisers import CrossAttending
from livo.types import Conditioning, Guide, Plan


class TextKey(NamedTuple):
    """A conditioning by content.

    Attributes:
        digest: of its embeddings, tokens and pooled.
        projection: whose K,V weights read it.
        scale: of guidance, read beside it by a denoiser that guides itself; else None.
    """

    digest: str
    projection: str
    scale: float | None = None


@dataclass(frozen=True)
class Job:
    """One image: what it starts from, what it reads by branch, how predictions are combined, in which U-Net.

    `start` is the digest of the latents that its seed's noise is added to; empty where it starts from noise alone.
    """

    seed: int
    branches: tuple[tuple[str, TextKey], ...]
    guide: Guide
    unet_override: str | None
    start: str = ""


@dataclass(frozen=True)
class Bank:
    """A denoiser, and the keys and values of every text that it reads in a run.

    Attributes:
        texts: by text: its length, its place among the texts of that length, and their keys and values by layer. Empty
            where the blocks change the text (`Denoiser.reads_projected`): then there is nothing to project beforehand.
    """

    denoiser: Denoiser
    texts: Mapping[TextKey, tuple[int, int, LayerKV]]


@dataclass(frozen=True)
class Batch:
    """The distinct jobs of a run, and everything that they read.

    Attributes:
        jobs: J distinct jobs.
        images: by plan name, the job of each of its N images.
        texts: what each key stands for.
        banks: by `Job.unet_override`.
        starts: by `Job.start`, (C, h, w) latents.
        size: (H, W) of the images.
        latent_size: (h, w).
    """

    jobs: tuple[Job, ...]
    images: Mapping[str, tuple[int, ...]]
    texts: Mapping[TextKey, Conditioning]
    banks: Mapping[str | None, Bank]
    starts: Mapping[str, Tensor]
    size: tuple[int, int]
    latent_size: tuple[int, int]

    def rows_alone(self, name: str) -> int:
        """Denoiser rows of a solver step that this plan's jobs would cost without any other."""
        return sum(len({key for _, key in self.jobs[j].branches}) for j in set(self.images[name]))

    def share(self, tensor: Tensor) -> dict[str, Tensor]:
        """(J, ...) by job -> (N, ...) by plan name."""
        return {name: tensor[list(jobs)] for name, jobs in self.images.items()}

    def rows_of_steps(self) -> tuple[int, int]:
        """Denoiser rows of the first solver step, and of one at which no two jobs have equal latents."""
        leads = equal_starts(self)
        first = {(leads[j], key) for j, job in enumerate(self.jobs) for _, key in job.branches}
        return len(first), sum(len({key for _, key in job.branches}) for job in self.jobs)


@dataclass(frozen=True)
class Call:
    """One call of a denoiser.

    Attributes:
        index: (rows,) whose latents each row denoises.
        text_kv: what each row reads, as keys and values; or
        prompt_embeds: (rows, L, D), as tokens.
        conditions: what the denoiser takes besides, the same at every step (`Denoiser.conditions`).
    """

    denoiser: Denoiser
    index: Tensor
    text_kv: tuple[KVGroup, ...] | None
    prompt_embeds: Tensor | None
    conditions: Mapping[str, Any]

    def __call__(self, latents: Tensor, timestep: Tensor, captured: CapturedCalls | None = None) -> Tensor:
        """(J, C, h, w) latents of all jobs -> (rows, C, h, w) predictions, in the latents' precision.

        Args:
            captured: runs the call, on a GPU.
        """
        rows = None if self.text_kv is None else tuple((group.rows.start, group.rows.stop) for group in self.text_kv)
        layers = None if self.text_kv is None else [dict(group.layers) for group in self.text_kv]
        read = latents[self.index].to(self.denoiser.dtype)
        given = (read, timestep, dict(self.conditions), layers, self.prompt_embeds)

        def run(given: tuple[Tensor, Tensor, dict[str, Any], Sequence[LayerKV] | None, Tensor | None]) -> Tensor:
            latents, timestep, conditions, layers, prompt_embeds = given
            groups = None
            if rows is not None and layers is not None:
                groups = tuple(KVGroup(slice(*span), own) for span, own in zip(rows, layers, strict=True))
            return self.denoiser(latents, timestep, conditions, text_kv=groups, prompt_embeds=prompt_embeds)

        made = run(given) if captured is None else captured((self.denoiser.net, rows), run, given)
        return made.to(latents.dtype)


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


@torch.inference_mode()
def collect(
    plans: Mapping[str, Plan],
    denoisers: Mapping[str | None, Denoiser],
    projections: Mapping[str, Mapping[str, Tensor]],
    latent_size: tuple[int, int],
) -> Batch:
    """The batch of plans that were found valid; each text is projected to keys and values here, once a run.

    Args:
        plans: by name, all of one size.
        denoisers: the shared one under None, methods' own by name.
        projections: edited K,V weights by name.
        latent_size: (h, w).
    """
    jobs: dict[Job, int] = {}
    images: dict[str, tuple[int, ...]] = {}
    texts: dict[TextKey, Conditioning] = {}
    starts: dict[str, Tensor] = {}
    seen: dict[int, str] = {}  # by id, safe while the plans live: most rows share a few tensors

    def seen_digest(embeds: Tensor) -> str:
        if id(embeds) not in seen:
            seen[id(embeds)] = digest(embeds)
        return seen[id(embeds)]

    def key_of(conditioning: Conditioning, scale: float | None) -> TextKey:
        parts = [part for part in (conditioning.prompt_embeds, conditioning.pooled) if part is not None]
        key = TextKey(" ".join(map(seen_digest, parts)), conditioning.projection, scale)
        texts.setdefault(key, conditioning)
        return key

    def start_keys(plan: Plan) -> list[str]:
        rows = [] if plan.start is None else list(plan.start.latents)
        starts.update(found := {digest(row): row for row in rows})
        return list(found) * len(plan.options.seeds) if len(rows) == 1 else [digest(row) for row in rows]

    for name, plan in plans.items():
        begin = start_keys(plan) or [""] * len(plan.options.seeds)
        own = denoisers[plan.unet_override].guides_itself
        scale = float(plan.options.guidance_scale) if own else None
        keys = {branch: [key_of(c, scale) for c in plan.branches[branch]] for branch in sorted(plan.branches)}
        images[name] = tuple(
            jobs.setdefault(
                Job(
                    seed,
                    tuple((b, k[i if len(k) > 1 else 0]) for b, k in keys.items()),
                    plan.guide,
                    plan.unet_override,
                    begin[i],
                ),
                len(jobs),
            )
            for i, seed in enumerate(plan.options.seeds)
        )
    banks: dict[str | None, Bank] = {}
    for override in dict.fromkeys(job.unet_override for job in jobs):
        read = dict.fromkeys(key for job in jobs if job.unet_override == override for _, key in job.branches)
        banks[override] = _bank(denoisers[override], {key: texts[key].prompt_embeds for key in read}, projections)
    options = next(iter(plans.values())).options
    return Batch(tuple(jobs), images, texts, banks, starts, (options.height, options.width), latent_size)


def usual_budget(device: torch.device) -> int:
    """Bytes of activations that a call may take: half of what a GPU has free now, 1 GiB elsewhere.

    One call a step wants all rows in it. Half, because the estimate is one and other programs may come.
    """
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 1 << 30


def equal_starts(batch: Batch) -> list[int]:
    """By job, the first job of its U-Net with the same seed and start: equal latents until their guides disagree."""
    first: dict[tuple[int, str | None, str], int] = {}
    return [first.setdefault((job.seed, job.unet_override, job.start), j) for j, job in enumerate(batch.jobs)]


def still_equal(leads: Sequence[int], latents: Tensor) -> list[int]:
    """By job, the first job among those that shared latents with it whose (J, C, h, w) latents still are the same.

    All pairs are compared on the device, and one transfer has the answers; none where no two jobs share latents.
    """
    pairs = [(k, j) for j, lead in enumerate(leads) for k in range(lead, j) if leads[k] == lead]
    if not pairs:
        return list(leads)
    first, second = torch.tensor(pairs, device=latents.device).T
    alike = known((latents[first] == latents[second]).flatten(1).all(1))
    same = [pair for pair, equal in zip(pairs, alike, strict=True) if equal]
    return [min((k for k, j in same if j == job), default=job) for job in range(len(leads))]


def known(flags: Tensor) -> list[bool]:
    """The values of a tensor on the device: the one place in a run where the CPU waits for them."""
    return flags.tolist()


@torch.inference_mode()
def lay_out(batch: Batch, leads: Sequence[int], memory_budget: int) -> tuple[list[Call], list[GuideGroup]]:
    """The denoiser calls of a solver step and who combines their rows, in an order that `leads` does not change.

    Jobs with equal latents that read the same text share its row. So methods share the empty prompt's row at the first
    step, and Fair Diffusion rides on Stable Diffusion's rows for as long as it has not begun to edit.

    Args:
        batch: the jobs.
        leads: by job, the job whose latents its own are equal to; itself where there is none.
        memory_budget: bytes of activations that one call may take, by `Denoiser.row_bytes`'s estimate; at least one row
            runs.
    """
    calls: list[Call] = []
    row_of: dict[tuple[int, TextKey], int] = {}
    for override, bank in batch.banks.items():
        denoiser = bank.denoiser
        jobs = [(leads[j], job) for j, job in enumerate(batch.jobs) if job.unet_override == override]
        rows = list(dict.fromkeys((lead, key) for lead, job in jobs for _, key in job.branches))
        # Rows of one length are neighbours, so that each length is a slice of its call.
        rows.sort(key=lambda row: len(batch.texts[row[1]].prompt_embeds))
        most = max(1, memory_budget // denoiser.row_bytes(*batch.latent_size))
        parts = [rows] if denoiser.reads_projected else _by_length(rows, batch.texts)
        for chunk in itertools.chain.from_iterable(_even_chunks(part, most) for part in parts):
            for row in chunk:
                row_of[row] = len(row_of)
            calls.append(_call(batch, bank, chunk))

    members: dict[tuple[Guide, tuple[str, ...], str | None], list[int]] = {}
    for j, job in enumerate(batch.jobs):
        members.setdefault((job.guide, tuple(b for b, _ in job.branches), job.unet_override), []).append(j)
    groups = []
    for (guide, branches, override), of_jobs in members.items():
        device = batch.banks[override].denoiser.device
        read = [dict(batch.jobs[j].branches) for j in of_jobs]
        rows_of = {
            b: torch.tensor([row_of[leads[j], text[b]] for j, text in zip(of_jobs, read, strict=True)], device=device)
            for b in branches
        }
        groups.append(GuideGroup(guide, torch.tensor(of_jobs, device=device), rows_of))
    return calls, groups


def _call(batch: Batch, bank: Bank, rows: Sequence[tuple[int, TextKey]]) -> Call:
    """The call of rows: the latents of which job, which text."""
    denoiser, keys = bank.denoiser, [key for _, key in rows]
    texts = [batch.texts[key] for key in keys]
    index = torch.tensor([j for j, _ in rows], device=denoiser.device)
    scales = torch.tensor([k.scale for k in keys], device=denoiser.device) if denoiser.guides_itself else None
    conditions = denoiser.conditions(len(rows), pooled_of(texts, denoiser), batch.size, scales)
    if denoiser.reads_projected:
        return Call(denoiser, index, _length_groups(keys, bank), None, conditions)
    tokens = torch.stack([text.prompt_embeds for text in texts]).to(denoiser.device, denoiser.dtype)
    return Call(denoiser, index, None, tokens, conditions)


def _by_length(
    rows: Sequence[tuple[int, TextKey]], texts: Mapping[TextKey, Conditioning]
) -> list[list[tuple[int, TextKey]]]:
    """Rows sorted by the length of their texts, parted where it changes."""
    parted = itertools.groupby(rows, lambda row: len(texts[row[1]].prompt_embeds))
    return [list(part) for _, part in parted]


def _bank(denoiser: Denoiser, texts: Mapping[TextKey, Tensor], projections: Mapping[str, Mapping[str, Tensor]]) -> Bank:
    found: dict[TextKey, tuple[int, int, LayerKV]] = {}
    if not isinstance(denoiser, CrossAttending):
        return Bank(denoiser, found)
    for length in sorted({len(embeds) for embeds in texts.values()}):
        keys = sorted((k for k in texts if len(texts[k]) == length), key=lambda k: k.projection)
        parts = []
        for projection in dict.fromkeys(key.projection for key in keys):
            embeds = torch.stack([texts[k] for k in keys if k.projection == projection]).to(
                denoiser.device, denoiser.dtype
            )
            weights = None if projection == "base" else projections[projection]
            parts.append(project_texts(denoiser.net, denoiser.read(embeds), weights))
        layers = {
            layer: (torch.cat([p[layer][0] for p in parts]), torch.cat([p[layer][1] for p in parts]))
            for layer in parts[0]
        }
        found |= {key: (length, place, layers) for place, key in enumerate(keys)}
    return Bank(denoiser, found)


def pooled_of(texts: Sequence[Conditioning], denoiser: Denoiser) -> Tensor | None:
    """(rows, P), or None where the denoiser reads none."""
    if not denoiser.pooled_width:
        return None
    pooled = [text.pooled for text in texts if text.pooled is not None]  # all have one: the engine has checked
    return torch.stack(pooled).to(denoiser.device, denoiser.dtype)


def _length_groups(keys: Sequence[TextKey], bank: Bank) -> tuple[KVGroup, ...]:
    """The groups of one call whose rows read `keys`, sorted by length: one a length."""
    groups: list[KVGroup] = []
    start = 0
    for length in dict.fromkeys(bank.texts[key][0] for key in keys):
        found = [bank.texts[key] for key in keys if bank.texts[key][0] == length]
        places = torch.tensor([place for _, place, _ in found], device=bank.denoiser.device)
        groups.append(KVGroup(slice(start, start + len(found)), gather(found[0][2], places)))
        start += len(found)
    return tuple(groups)


def _even_chunks(rows: Sequence, most: int) -> list[Sequence]:
    """As few chunks of at most `most` as there can be, of sizes that differ by one at the most."""
    count = -(-len(rows) // most)
    edges = [len(rows) * i // count for i in range(count + 1)]
    return [rows[a:b] for a, b in itertools.pairwise(edges)]
