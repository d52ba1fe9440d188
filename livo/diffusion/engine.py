"""The engine: any number of plans in one batch over one denoiser.

Every alignment method is a plan (`livo.types.Plan`): which texts the denoiser reads, through whose key/value
projections, and how the noise predictions are combined. The engine knows nothing of principles, of methods or of the
page; it finds equal work, projects each text once, denoises all images together and reports after every solver step.

    engine = Engine(load_backbone())
    plan = classifier_free_plan(engine, [engine.condition("a photo of a doctor")], options)
    images = engine.generate({"stable_diffusion": plan})["stable_diffusion"]
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Generator as Steps
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from diffusers import SchedulerMixin
from torch import Generator, Tensor

from livo.diffusion.attention import KVGroup, check_projection, cross_attention_layers, install, project_texts
from livo.diffusion.backbones import Backbone, find_scheduler, load_backbone
from livo.diffusion.batch import Batch, Call, collect, equal_starts, lay_out, pooled_of, still_equal, usual_budget
from livo.diffusion.captured import CapturedCalls
from livo.diffusion.denoiser import Denoiser, DenoiserNet
from livo.diffusion.denoisers import CrossAttending, denoiser_of
from livo.diffusion.flops import row_flop
from livo.diffusion.latents import Arriving, decode, initial_noise, latent_rgb, preview
from livo.diffusion.solver_steps import predict, solver_step
from livo.types import NO_CHANGES, Conditioning, InputError, ModelChanges, Plan, Progress, SamplingOptions, Step

logger = logging.getLogger(__name__)

PROMPT_CACHE_SIZE = 128


def guides(guidance_scale: float) -> bool:
    """Whether guidance of this scale acts: above 1, as in diffusers' pipelines."""
    return guidance_scale > 1


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """eps = u + scale (c - u), from the branches "uncond" (u) and "cond" (c).

    As in diffusers it acts above a scale of 1 only: at 1 and below eps = c, and "uncond" may be absent. Turbo models,
    which were made to be sampled without guidance, are asked for with 0.

    Source:
        Ho & Salimans 2022 (arXiv 2207.12598), eq. 6 with w = scale - 1.
    """

    scale: float

    def __call__(self, noise_preds: Mapping[str, Tensor], step: Step) -> Tensor:
        """(n, C, h, w) predictions by branch -> (n, C, h, w).

        Raises:
            ValueError: "cond" is absent, or "uncond" at a scale that needs it.
        """
        if "cond" not in noise_preds or ("uncond" not in noise_preds and guides(self.scale)):
            raise ValueError(f"guidance of scale {self.scale} wants 'uncond' and 'cond'; got {sorted(noise_preds)}")
        if not guides(self.scale):
            return noise_preds["cond"]
        uncond = noise_preds["uncond"]
        return uncond + self.scale * (noise_preds["cond"] - uncond)


def classifier_free_plan(
    engine: Engine,
    cond: Sequence[Conditioning],
    options: SamplingOptions,
    *,
    uncond: Sequence[Conditioning] | None = None,
    unet_override: str | None = None,
    notes: tuple[str, ...] = (),
) -> Plan:
    """The plan of a method that guides as Stable Diffusion does: its texts against the negative prompt.

    Args:
        engine: encodes the negative prompt.
        cond: one conditioning for all images, or one per image.
        uncond: likewise; without it the options' negative prompt, empty where a person gave none, read through the
            first cond's projection: an edit of the K,V weights acts on both branches.
        options: its guidance scale is the guide's; at 1 and below there is no unconditional branch, and where the
            denoiser guides itself there is none at all.
        unet_override, notes: as in `Plan`.
    """
    branches: dict[str, Sequence[Conditioning]] = {"cond": tuple(cond)}
    scale = 1.0 if engine.denoiser.guides_itself else float(options.guidance_scale)
    if guides(scale):
        negative = engine.condition(options.negative_prompt, cond[0].projection)
        branches["uncond"] = (negative,) if uncond is None else tuple(uncond)
    return Plan(branches, ClassifierFreeGuidance(scale), options, unet_override, notes)


class Engine:
    """Runs plans on a backbone.

    Threads may share an engine: a run keeps its state in its own generator.

    Args:
        backbone: its denoiser gets attention processors that read text keys and values given per call; its weights
            are never written to.
        memory_budget: bytes of activations that one denoiser or VAE call may take (by `Denoiser.row_bytes`'s estimate).
            Without one, `usual_budget`. Where a device has less, calls are halved until they fit, for the rest of the
            run.
        scheduler_class: the diffusers solver, built anew for each run from the backbone's scheduler config; without one
            what suits the denoiser (`Denoiser.solver`).
        graphs: on a CUDA device, launch calls whose layout comes again as CUDA graphs (`CapturedCalls`).

    Raises:
        ValueError: the budget is not positive.
        InputError: another solver than flow matching's was asked for, and the backbone is sampled by that alone.
    """

    def __init__(
        self,
        backbone: Backbone,
        memory_budget: int | None = None,
        scheduler_class: type[SchedulerMixin] | None = None,
        *,
        graphs: bool = False,
    ) -> None:
        if memory_budget is not None and memory_budget <= 0:
            raise ValueError(f"a memory budget of {memory_budget} bytes holds nothing; give a positive number")
        self.backbone = backbone
        self.memory_budget = usual_budget(backbone.device) if memory_budget is None else memory_budget
        self.denoiser = denoiser_of(backbone.unet)
        own = self.denoiser.solver(backbone.scheduler_config)
        if self.denoiser.is_flow and scheduler_class is not None and not issubclass(scheduler_class, own):
            raise InputError(
                f"{scheduler_class.__name__} cannot sample {self.denoiser.title}, which flow matching has trained: its "
                f"one solver here is {own.__name__}; leave the scheduler out"
            )
        self.scheduler_class = scheduler_class or own
        self._denoisers: dict[str | None, Denoiser] = {None: self.denoiser}
        self._projections: dict[str, dict[str, Tensor]] = {}
        self._prompts: OrderedDict[str, Conditioning] = OrderedDict()
        self._prompts_lock = threading.Lock()
        self._captured = CapturedCalls() if graphs and backbone.device.type == "cuda" else None
        if self.denoiser.reads_projected:
            install(backbone.unet)

    def condition(self, prompt: str, projection: str = "base") -> Conditioning:
        """What the denoiser reads of a prompt, as the backbone's diffusers pipeline has it.

        The last 128 prompts are remembered and handed out again: do not write into their tensors.

        Args:
            projection: the K,V weights that read it, as in `Conditioning`.
        """
        return replace(self.conditions([prompt])[0], projection=projection)

    def conditions(self, prompts: Sequence[str]) -> list[Conditioning]:
        """As `condition` of each, of base projection; those that are not remembered are encoded in one batch.

        A batch may round otherwise than a prompt alone does: by 1e-5 at the most in float32.
        """
        with self._prompts_lock:
            if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]:
                self._prompts |= zip(new, self.backbone.text.conditions(new), strict=True)
            for prompt in prompts:
                self._prompts.move_to_end(prompt)
            found = [self._prompts[prompt] for prompt in prompts]
            while len(self._prompts) > PROMPT_CACHE_SIZE:
                self._prompts.popitem(last=False)
            return found

    def encode_prompt(self, prompt: str) -> Tensor:
        """(L, D) token embeddings of the prompt: (77, D), padded or truncated, but for PixArt. As `condition`'s."""
        return self.condition(prompt).prompt_embeds

    def add_projection(self, name: str, weights: Mapping[str, Tensor]) -> None:
        """Makes edited cross-attention weights known under a name that conditionings can give.

        Args:
            name: any but "base"; a name that is known already now means the new weights, from the next run on.
            weights: every `<module>.to_k` and `<module>.to_v` of the U-Net's attn2, with or without `.weight`.
                They are copied, and kept beside the U-Net.

        Raises:
            ValueError: the name is "base", or a weight is missing, unknown or of another shape.
        """
        if name == "base":
            raise ValueError("'base' names the U-Net's own weights; give the projection another name")
        self._projections[name] = check_projection(self.backbone.unet, name, weights)

    def add_unet(self, name: str, unet: DenoiserNet) -> None:
        """Makes a method's own U-Net known, for methods that change more than K and V; it runs in its own batch.

        Args:
            name: what plans give as their `unet_override`.

        Raises:
            ValueError: the U-Net does not fit the backbone's texts and latents.
        """
        if type(unet) is not type(self.backbone.unet):
            raise ValueError(f"U-Net {name!r} is a {type(unet).__name__}, not a {type(self.backbone.unet).__name__}")
        for key in ("in_channels", "out_channels", "cross_attention_dim", "joint_attention_dim", "guidance_embeds",
                    "time_cond_proj_dim"):  # fmt: skip
            found, wanted = unet.config.get(key), self.backbone.unet.config.get(key)
            if found != wanted:
                raise ValueError(f"U-Net {name!r} has {key} {found}, not {wanted}")
        if cross_attention_layers(unet).keys() != cross_attention_layers(self.backbone.unet).keys():
            raise ValueError(f"U-Net {name!r} has other cross-attention layers than the backbone's")
        if (unet.device, unet.dtype) != (self.backbone.device, self.backbone.dtype):
            unet.to(self.backbone.device, self.backbone.dtype)
        unet.eval().requires_grad_(False)
        if self.denoiser.reads_projected:
            install(unet)
        self._denoisers[name] = denoiser_of(unet)

    def predict_noise(
        self, latents: Tensor, timesteps: Tensor, texts: Sequence[Conditioning], unet_override: str | None = None
    ) -> Tensor:
        """One denoiser call as a plan's branch makes it, with gradients at the texts: for whoever attacks a method.

        Args:
            latents: (N, C, h, w) noisy, as a scheduler scaled them.
            timesteps: (N,).
            texts: N of one length and one projection.
            unet_override: as in `Plan`.

        Returns:
            (N, C, h, w) noise predictions.
        """
        denoiser, projection = self._denoisers[unet_override], texts[0].projection
        if not isinstance(denoiser, CrossAttending):
            raise InputError(
                f"texts that {denoiser.title} reads cannot be attacked here: give a model that projects them"
            )
        embeds = torch.stack([text.prompt_embeds for text in texts]).to(denoiser.device, denoiser.dtype)
        weights = None if projection == "base" else self._projections[projection]
        layers = project_texts(denoiser.net, denoiser.read(embeds), weights)
        height, width = (side * self.backbone.vae_scale for side in latents.shape[-2:])
        conditions = denoiser.conditions(len(texts), pooled_of(texts, denoiser), (height, width))
        return denoiser(latents, timesteps, conditions, text_kv=(KVGroup(slice(0, len(texts)), layers),))

    def check_options(self, options: SamplingOptions) -> None:
        """Whether the backbone can make pictures of this size in so many steps.

        Raises:
            InputError: it cannot.
        """
        step = self.backbone.vae_scale * self.denoiser.patch
        for side, pixels in (("height", options.height), ("width", options.width)):
            if pixels <= 0 or pixels % step:
                raise InputError(f"a {side} of {pixels} pixels cannot be made: give a positive multiple of {step}")
        self._scheduler(options)

    def row_flop(self, options: SamplingOptions) -> int:
        """Floating point operations of one denoiser row at these options' size, under the longest text."""
        return row_flop(self.backbone.unet, *self._latent_size(options), self.backbone.text.max_length)

    def rows(self, plans: Mapping[str, Plan]) -> tuple[int, int]:
        """Denoiser rows of a run and of one of its steps, at the most: no more are shared than at the first step."""
        options = self._check(plans)
        batch = collect(plans, self._denoisers, self._projections, self._latent_size(options))
        first, later = batch.rows_of_steps()
        return first + (len(self._scheduler(options)[1]) - 1) * later, later

    def generate(self, plans: Mapping[str, Plan]) -> dict[str, Tensor]:
        """(N, 3, H, W) uint8 images by plan name. Raises as `stream`."""
        *_, last = self.stream(plans)
        return finished(last)

    def stream(self, plans: Mapping[str, Plan]) -> Steps[Progress, None, None]:
        """Denoises all plans together, reporting after every solver step; the last report has the images.

        Plans are checked before this returns; work begins at the first `next`. Closing the iterator stops the run
        before its next step.

        Args:
            plans: by a name of the caller's choice. All have the same steps, height and width.

        Raises:
            InputError: a size that the backbone cannot make, or a number of steps that its solver cannot run.
            ValueError: no plan, plans that cannot run together, or a plan that names something unknown.
        """
        # A quarter: decoding is one short moment, and must not be the peak of a run over large pictures.
        vae, budget = self.backbone.vae, self.memory_budget // 4
        return self._run(dict(plans), self._check(plans), lambda latents: decode(vae, latents, budget))

    def sample(self, plans: Mapping[str, Plan]) -> dict[str, Tensor]:
        """(N, C, h, w) finished latents by plan name, not decoded. Raises as `stream`."""
        *_, last = self._run(dict(plans), self._check(plans), lambda latents: latents)
        return finished(last)

    def _run(
        self, plans: Mapping[str, Plan], options: SamplingOptions, finish: Callable[[Tensor], Tensor]
    ) -> Steps[Progress, None, None]:
        started = time.perf_counter()
        scheduler, levels = self._scheduler(options)
        skipped = _skipped(plans, options.num_inference_steps) * scheduler.order
        if skipped and hasattr(scheduler, "set_begin_index"):  # the others find their step by its timestep
            scheduler.set_begin_index(skipped)
        # Sliced only where something is left out: all of them are known without asking a device, a part may not be.
        timesteps, levels = scheduler.timesteps[skipped:] if skipped else scheduler.timesteps, levels[skipped:]
        on_device = timesteps.to(self.backbone.device)
        times = [int(t) for t in timesteps.tolist()]
        batch = collect(plans, self._denoisers, self._projections, self._latent_size(options))
        latents, generators = self._start(batch, scheduler, timesteps[:1], options)
        leads, budget = equal_starts(batch), self.memory_budget
        calls, groups = lay_out(batch, leads, budget)
        memories: list[dict] = [{} for _ in groups]
        rows, alone = 0, {name: batch.rows_alone(name) for name in plans}
        reports: deque[tuple[Progress, Arriving]] = deque()
        late = 1 if self.backbone.device.type == "cuda" else 0
        for i, timestep in enumerate(timesteps):
            steps = [Step(i, times[i], len(times), memory) for memory in memories]
            while (predictions := predict(scheduler, timestep, on_device[i], latents, calls, self._captured)) is None:
                budget = self._halved(calls, options)
                calls, groups = lay_out(batch, leads, budget)
            latents, x0 = solver_step(scheduler, timestep, levels[i], latents, predictions, groups, steps, generators)
            rows += sum(len(call.index) for call in calls)
            arriving = Arriving(preview(x0, self._latent_rgb))
            if (now := still_equal(leads, latents)) != leads:
                leads = now
                calls, groups = lay_out(batch, leads, budget)
            last = i + 1 == len(times)
            images = batch.share(finish(latents)) if last else None
            used = {name: count * (i + 1) for name, count in alone.items()}
            # A GPU is one step ahead of its reports, so that it never waits for whoever reads them.
            reports.append((Progress(i + 1, len(times), {}, images, 0.0, rows, used), arriving))
            while len(reports) > (0 if last else late):
                report, previews = reports.popleft()
                seconds = time.perf_counter() - started
                yield replace(report, previews=batch.share(previews.wait()), seconds=seconds)

    def _scheduler(self, options: SamplingOptions) -> tuple[SchedulerMixin, list[float]]:
        """The solver, its tables on the CPU, where reading a number waits for no device; where each step starts."""
        scheduler = self.scheduler_class.from_config(dict(self.backbone.scheduler_config))
        try:
            levels = self.denoiser.set_timesteps(scheduler, options.num_inference_steps, self._latent_size(options))
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{self.scheduler_class.__name__} cannot run {options.num_inference_steps} steps of "
                f"{self.backbone.name}: give fewer, such as {self.backbone.defaults.num_inference_steps}"
            ) from error
        return scheduler, levels

    def _halved(self, calls: Sequence[Call], options: SamplingOptions) -> int:
        """The budget under which no call has more than half the rows of the largest.

        Raises:
            torch.OutOfMemoryError: the largest has one row.
        """
        most = max(len(call.index) for call in calls)
        if most == 1:
            raise torch.OutOfMemoryError(
                "one row of a U-Net call is more than the device's memory holds: ask for smaller images"
            )
        logger.warning("the device's memory is full: U-Net calls of %d rows are halved", most)
        if self._captured is not None:
            self._captured.clear()
            torch.cuda.empty_cache()
        return most // 2 * self.denoiser.row_bytes(*self._latent_size(options))

    @torch.inference_mode()
    def _start(
        self, batch: Batch, scheduler: SchedulerMixin, first: Tensor, options: SamplingOptions
    ) -> tuple[Tensor, list[Generator]]:
        shape = (self.denoiser.in_channels, *self._latent_size(options))
        noise, generators = initial_noise([job.seed for job in batch.jobs], shape, self.backbone.noise_dtype)
        noise = noise.to(self.backbone.device)
        if not batch.starts:
            return noise * getattr(scheduler, "init_noise_sigma", 1.0), generators
        starts = torch.stack([batch.starts[job.start].to(noise) for job in batch.jobs])
        if self.denoiser.is_flow:
            return scheduler.scale_noise(starts, first.repeat(len(starts)), noise), generators
        return scheduler.add_noise(starts, noise, first.repeat(len(starts))), generators

    @cached_property
    def _latent_rgb(self) -> Tensor:
        return latent_rgb(self.backbone.vae)

    def _latent_size(self, options: SamplingOptions) -> tuple[int, int]:
        return options.height // self.backbone.vae_scale, options.width // self.backbone.vae_scale

    def _check(self, plans: Mapping[str, Plan]) -> SamplingOptions:
        """The options that the plans share; raises as `stream` says."""
        if not plans:
            raise ValueError("there is no plan to run; give at least one")
        first = next(iter(plans.values())).options
        for name, plan in plans.items():
            for key in ("num_inference_steps", "height", "width"):
                if (value := getattr(plan.options, key)) != (wanted := getattr(first, key)):
                    raise ValueError(f"plans of one run share their {key}: {name!r} has {value}, not {wanted}")
            if _strength(plan) != _strength(next(iter(plans.values()))):
                raise ValueError(f"plans of one run start alike: {name!r} has another strength, or none")
            self._check_plan(name, plan)
        self.check_options(first)
        return first

    def _check_plan(self, name: str, plan: Plan) -> None:
        width, pooled = self.denoiser.text_width, self.denoiser.pooled_width
        if plan.start is not None:
            wanted = (self.backbone.unet.config.in_channels, *self._latent_size(plan.options))
            n, given = len(plan.start.latents), tuple(plan.start.latents.shape[1:])
            if given != wanted or n not in (1, len(plan.options.seeds)):
                raise ValueError(
                    f"plan {name!r} starts from latents {(n, *given)}; wanted {wanted}, one or one per image"
                )
            if not 1 <= int(plan.options.num_inference_steps * plan.start.strength) <= plan.options.num_inference_steps:
                raise ValueError(
                    f"plan {name!r}: a strength of {plan.start.strength} runs no step of "
                    f"{plan.options.num_inference_steps}, or too many: give a share up to 1 that runs one or more"
                )
        if plan.unet_override not in self._denoisers:
            known = ", ".join(own for own in self._denoisers if own) or "none"
            raise ValueError(f"plan {name!r} wants U-Net {plan.unet_override!r}; there are: {known}")
        if not plan.branches:
            raise ValueError(f"plan {name!r} has no branch: nothing would be predicted")
        try:
            hash(plan.guide)
        except TypeError:
            raise ValueError(f"plan {name!r}: its guide cannot be hashed; make it a frozen dataclass") from None
        for branch, conditionings in plan.branches.items():
            if len(conditionings) not in (1, len(plan.options.seeds)):
                raise ValueError(
                    f"plan {name!r}: branch {branch!r} has {len(conditionings)} conditionings for "
                    f"{len(plan.options.seeds)} images; give one, or one per image"
                )
            for conditioning in conditionings:
                shape = tuple(conditioning.prompt_embeds.shape)
                if len(shape) != 2 or shape[0] == 0 or shape[1] != width:
                    raise ValueError(f"plan {name!r}: branch {branch!r} has embeddings {shape}; wanted (L, {width})")
                if pooled and (conditioning.pooled is None or tuple(conditioning.pooled.shape) != (pooled,)):
                    raise ValueError(
                        f"plan {name!r}: branch {branch!r} lacks the pooled embedding, ({pooled},), that "
                        f"{self.denoiser.title} reads beside the tokens; engine.condition(prompt) gives both"
                    )
                if conditioning.projection not in ("base", *self._projections):
                    known = ", ".join(("base", *self._projections))
                    raise ValueError(f"plan {name!r} wants projection {conditioning.projection!r}; there are: {known}")


def _strength(plan: Plan) -> float | None:
    return None if plan.start is None else plan.start.strength


def _skipped(plans: Mapping[str, Plan], num_steps: int) -> int:
    """First steps that a run leaves out, because its plans start from pictures."""
    strength = _strength(next(iter(plans.values())))
    return 0 if strength is None else num_steps - int(num_steps * strength)


def load_engine(
    name: str = "miniature",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    changes: ModelChanges = NO_CHANGES,
    memory_budget: int | None = None,
    *,
    graphs: bool = False,
) -> Engine:
    """The engine over a backbone, as a person chose it.

    Args:
        name, device, dtype: as in `load_backbone`.
        changes: a LoRA among them is merged into the backbone, for all methods alike.
        memory_budget, graphs: as in `Engine`.

    Raises:
        BackboneError: something does not load, or there is no such scheduler.
        InputError: the scheduler cannot sample this backbone.
    """
    scheduler_class = find_scheduler(changes.scheduler) if changes.scheduler else None
    backbone = load_backbone(name, device, dtype, changes.vae)
    if changes.lora:
        from livo.diffusion.lora import merge_lora  # with diffusers' pipeline, which few runs need

        merge_lora(backbone, changes.lora)
    return Engine(backbone, memory_budget, scheduler_class, graphs=graphs)


def finished(last: Progress) -> dict[str, Tensor]:
    """The images of a run's last report, by plan name.

    Raises:
        ValueError: the report is not the last.
    """
    if last.images is None:
        raise ValueError(f"step {last.step} of {last.num_steps} has no images yet: the last report has them")
    return dict(last.images)
