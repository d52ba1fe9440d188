"""The training of a value encoder: pairs dealt to processes, steps, checkpoints, and pictures to look at.

Which rows a step sees, and what is drawn for each, depends on the seed and the step alone. So a killed run ends as an
uninterrupted one, and any number of processes sees what one would have seen.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image

from livo.diffusion.backbones import Backbone
from livo.diffusion.denoisers import denoiser_of
from livo.diffusion.engine import Engine
from livo.methods.livo import LiVO
from livo.methods.value_encoder import TextValueEncoder, ValueEncoder, save_encoder
from livo.principles import find_principle
from livo.runs import weights_digest
from livo.types import InputError, SamplingOptions
from train.loop import train
from train.preference.activity import Activity
from train.preference.chunks import Chunks
from train.preference.flow_step import FlowStep, ValueTokens
from train.preference.losses import PreferenceLoss, livo_loss
from train.preference.pairs import PreferenceSet
from train.preference.step import FastStep, OfficialStep, Pooled, Step, StepContext, image_moments, numbers_of


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one run that decide its result, the same for every loss so that losses can be compared.

    Attributes:
        batch_size: pairs of a step, over all processes.
        schedule: "constant", or "decay": up over 50 steps, and linearly down over the last half.
        num_draws: each row's (timestep, noise, loser) are drawn this often and then come round again, so that the
            reference's errors are computed once for each; 0 draws anew at every visit.
        official: step as the official trainer does, without any saving, pictures mirrored at random.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    schedule: str
    num_draws: int
    weight_decay: float = 1e-2
    seed: int = 0
    official: bool = False

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.batch_size < 1:
            raise InputError(f"{self.num_steps} steps of {self.batch_size} pairs train nothing: give 1 or more of each")
        if self.schedule not in ("constant", "decay"):
            raise InputError(f"no schedule {self.schedule!r}; there are: constant, decay")
        if self.num_draws < 0:
            raise InputError(f"{self.num_draws} draws a row: give 0 for new ones every time, or more")

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * min(1.0, (step + 1) / 50, max(0.05, 2 * (1 - step / self.num_steps)))


MINIATURE = TrainingConfig(num_steps=1500, batch_size=16, learning_rate=3e-4, schedule="decay", num_draws=1)
PAPER = TrainingConfig(num_steps=15_000, batch_size=8, learning_rate=1e-6, schedule="constant", num_draws=0)
"""Sec. 4.1 of the paper; weight decay and schedule as its release has them."""


@dataclass(frozen=True)
class RuntimeOptions:
    """How a run goes about it; nothing here changes the result beyond rounding.

    Attributes:
        micro_batch: pairs whose U-Net rows take one pass together, to save memory; 0 is all of a process's.
        gradient_checkpointing: compute U-Net activations twice and keep fewer.
        checkpoint_every: steps between value encoders kept beside the state; 0 keeps none.
        keep: how many of them; the oldest go.
        validate_every: steps between pictures of `validation`; 0 draws none.
        validation: prompts with the principle to draw them under.
        about: what a kept encoder's file says of its training, beside its steps.
    """

    micro_batch: int = 0
    gradient_checkpointing: bool = False
    checkpoint_every: int = 0
    keep: int = 5
    validate_every: int = 0
    validation: tuple[tuple[str, str], ...] = ()
    about: Mapping[str, object] = field(default_factory=dict)


def constants(loss: PreferenceLoss) -> dict[str, float]:
    """A loss's constants by name: the defaults of its keywords, or what a `functools.partial` of it sets.

    Example:
        >>> constants(functools.partial(livo_loss, beta=10.0))
        {'beta': 10.0, 'alpha': 500.0, 'gamma_1': 1.0, 'gamma_2': 0.5}
    """
    parameters = inspect.signature(loss).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def deal(
    step: int, config: TrainingConfig, count: int, process: int = 0, processes: int = 1
) -> tuple[list[int], list[int]]:
    """Row indices of a step that belong to a process, and the number of the draw for each.

    Epochs are permutations of the rows; a step may span two. Process p has the p-th part of the step's pairs.

    Example:
        >>> config = TrainingConfig(num_steps=9, batch_size=2, learning_rate=1.0, schedule="constant", num_draws=2)
        >>> [deal(step, config, count=3) for step in range(4)]
        [([2, 0], [0, 0]), ([1, 1], [0, 1]), ([2, 0], [1, 1]), ([0, 2], [0, 0])]
    """
    share = config.batch_size // processes
    first = step * config.batch_size + process * share
    indices, draws = [], []
    for position in range(first, first + share):
        epoch, place = divmod(position, count)
        indices.append(_permutation(config.seed, epoch, count)[place])
        draws.append(epoch % config.num_draws if config.num_draws else epoch)
    return indices, draws


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    return torch.randperm(count, generator=generator).tolist()


class Training:
    """One run, step by step.

    Args:
        backbone: frozen, on the accelerator's device, in the precision that its U-Net shall run in.
        data: pairs; pictures of the size to train at.
        work: the caches of latents and reference errors, shared by the runs that can share them, and a sub-folder for
            this very run with the state to resume from, the log and the checkpoints. Names have a digest of all that
            the content depends on, so that another backbone, data or setting never resumes from it.
        loss: of `train/preference/losses.py`, or a `functools.partial` of one with other constants.

    Raises:
        InputError: the pairs of a step cannot be dealt evenly, or the backbone predicts neither noise nor velocities.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: PreferenceSet,
        config: TrainingConfig,
        work: Path,
        loss: PreferenceLoss = livo_loss,
        runtime: RuntimeOptions | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.accelerator = accelerator or Accelerator(cpu=backbone.device.type == "cpu")
        self.backbone, self.data, self.config, self.loss = backbone, data, config, loss
        self.runtime = runtime or RuntimeOptions()
        if config.batch_size % self.accelerator.num_processes:
            raise InputError(
                f"{config.batch_size} pairs a step cannot be dealt to {self.accelerator.num_processes} processes "
                "evenly: give a --batch-size that is a multiple"
            )
        if (predicts := backbone.scheduler_config.get("prediction_type", "epsilon")) != "epsilon":
            raise InputError(
                f"backbone {backbone.name} predicts {predicts!r}: value encoders are trained on predicted noise"
            )
        if config.official and denoiser_of(backbone.unet).is_flow:
            raise InputError(f"the official trainer knows no {backbone.kind}: leave --official out")
        self.name: str = getattr(loss, "func", loss).__name__
        self.facts: dict[str, Any] = {
            "loss": self.name,
            "constants": constants(loss),
            "config": asdict(config),
            "backbone": weights_digest(*backbone.text.encoders.values(), backbone.unet, backbone.vae),
            "precision": str(backbone.dtype).removeprefix("torch."),
            "data": data.digest,
        } | ({"neutral": data.neutral} if data.neutral else {})
        self.work = work
        self.folder = work / f"{self.name}-{_digest(self.facts)}"
        torch.manual_seed(config.seed)
        self.encoder: ValueEncoder | TextValueEncoder
        if denoiser_of(backbone.unet).is_flow:
            self.encoder = TextValueEncoder.untrained(backbone)
        else:
            self.encoder = ValueEncoder.untrained(backbone)
        self.encoder.model.to(torch.promote_types(backbone.dtype, torch.float32)).requires_grad_(True)
        for name, parameter in self.encoder.model.named_parameters():
            if "text_projection" in name:  # no token comes through it, and processes wait for every gradient
                parameter.requires_grad_(False)
        self._learn()
        if self.runtime.gradient_checkpointing:
            backbone.unet.enable_gradient_checkpointing()
        optimizer = torch.optim.AdamW(
            self.encoder.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        wrapped = (
            ValueTokens(self.encoder) if isinstance(self.encoder, TextValueEncoder) else Pooled(self.encoder.model)
        )
        pooled, self.optimizer = self.accelerator.prepare(wrapped, optimizer)
        self.activity = Activity()
        self._forward_backward = self._make_step(pooled)

    def _learn(self) -> None:
        """T5 would drop activations by chance in training mode; what a step sees depends on the seed alone."""
        self.encoder.model.train(isinstance(self.encoder, ValueEncoder))

    def _make_step(self, pooled: torch.nn.Module) -> Step:
        backbone, data = self.backbone, self.data
        height, width = data.pictures([data.rows[0].winner]).shape[2:]
        shape = (denoiser_of(backbone.unet).in_channels, height // backbone.vae_scale, width // backbone.vae_scale)
        context = StepContext(
            backbone, data, pooled, self.loss, self.accelerator, shape, self.config.seed, self.runtime.micro_batch,
        )  # fmt: skip
        if self.config.official:
            return OfficialStep(context)
        same = {key: self.facts[key] for key in ("backbone", "precision", "data")}
        moments = Chunks(
            self.work / f"latents-{_digest(same | {'data': data.source})}",
            data.num_images,
            lambda first, end: image_moments(backbone, data.pictures(range(first, end))),
            16,
        )
        kept = self.work / f"references-{_digest(same | {'seed': self.config.seed})}"
        references = kept if self.config.num_draws else None
        if isinstance(self.encoder, TextValueEncoder):
            return FlowStep(context, self.encoder.trainable, moments, references, self.activity)
        return FastStep(context, moments, references, self.activity)

    def _prepare(self, step: int) -> None:
        count, batch = len(self.data.rows), self.config.batch_size
        epochs = range(step * batch // count, ((step + 1) * batch - 1) // count + 1)
        self._forward_backward.prepare({epoch % max(self.config.num_draws, 1) for epoch in epochs})

    def step(self, i: int) -> dict[str, float]:
        """Trains on the pairs of step i; returns its numbers, averaged over the processes."""
        indices, draws = deal(
            i, self.config, len(self.data.rows), self.accelerator.process_index, self.accelerator.num_processes
        )
        self._prepare(i)
        self.optimizer.zero_grad(set_to_none=True)
        errors = self._forward_backward(indices, draws)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(i)
        self.accelerator.clip_grad_norm_(self.encoder.model.parameters(), 1.0)
        self.optimizer.step()
        found = numbers_of(errors, self.loss)
        means = self.accelerator.reduce(torch.stack([value.float() for value in found.values()]), "mean").tolist()
        numbers = dict(zip(found, means, strict=True))
        self.accelerator.log(numbers, step=i + 1)
        if self.accelerator.is_main_process:
            self._leave(i + 1)
        return numbers

    def _leave(self, done: int) -> None:
        """Checkpoints and validation pictures after `done` steps."""
        runtime = self.runtime
        if runtime.checkpoint_every and done % runtime.checkpoint_every == 0:
            kept, about = self.folder / "checkpoints" / f"{done:06d}", {"steps": done, **runtime.about}
            save_encoder(self.encoder, kept, half=True, training=about)
            for old in sorted((self.folder / "checkpoints").iterdir())[: -runtime.keep]:
                shutil.rmtree(old)
        if runtime.validate_every and runtime.validation and done % runtime.validate_every == 0:
            path = self.folder / "validation" / f"{done:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            sheet = torch.cat([torch.cat(list(row), dim=2) for row in self.validation()], dim=1)
            Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy()).save(path)

    def validation(self, images: int = 4) -> list[torch.Tensor]:
        """For each validation prompt (images, 3, H, W) uint8, all of them with the value."""
        engine, defaults = Engine(self.backbone), self.backbone.defaults
        options = SamplingOptions(
            tuple(range(images)), defaults.num_inference_steps, defaults.guidance_scale, defaults.height, defaults.width
        )
        self.encoder.model.eval()
        method = LiVO(engine, self.encoder, mixing_rate=1.0)
        plans = {p: method.plan(p, find_principle(v), options) for p, v in self.runtime.validation}
        pictures = engine.generate(plans)
        self._learn()
        return list(pictures.values())

    def run(self) -> list[dict[str, float]]:
        """All steps, from where a killed run of the same settings stopped.

        Returns:
            `train.loop.train`'s log.
        """
        parts: dict[str, Any] = {
            "value_encoder": self.encoder.model, "optimizer": self.optimizer, "activity": self.activity
        }  # fmt: skip
        if getattr(self.accelerator, "scaler", None) is not None:
            parts["scaler"] = self.accelerator.scaler
        main = self.accelerator.is_main_process
        log = train(self.name, self.folder / "state.pt", parts, self.config.num_steps, self.step, main=main)
        if main:
            (self.folder / "log.json").write_text(json.dumps(self.facts | {"log": log}, indent=1))
        self.encoder.model.eval().requires_grad_(False)
        return log


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def train_value_encoder(
    backbone: Backbone,
    data: PreferenceSet,
    config: TrainingConfig,
    work: Path,
    loss: PreferenceLoss = livo_loss,
    runtime: RuntimeOptions | None = None,
    accelerator: Accelerator | None = None,
) -> tuple[ValueEncoder | TextValueEncoder, list[dict[str, float]]]:
    """A `Training` run to its end: the trained encoder, and the log."""
    training = Training(backbone, data, config, work, loss, runtime, accelerator)
    log = training.run()
    return training.encoder, log
