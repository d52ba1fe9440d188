"""What a GPU would be asked to do, without one: fake CUDA tensors at Stable Diffusion's real size.

Fake tensors have shapes, dtypes and devices and no numbers; mixing devices raises. So whatever the run would have to
know from the device shows as a call of `known`, and every operator that it launches can be counted.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch
from conftest import tiny_tokenizer
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel

from baselines.fair_diffusion import Concept, SemanticGuidance
from livo.diffusion import batch as batch_module
from livo.diffusion import captured as captured_module
from livo.diffusion.backbones import Backbone, Defaults
from livo.diffusion.engine import ClassifierFreeGuidance, Engine
from livo.diffusion.text_encoders import ClipText
from livo.methods.edited_weights import projection_weights
from livo.types import Conditioning, Plan, SamplingOptions

STEPS = 5
"""The first, while methods share rows; the second with a layout of its own; in the third that is captured."""
GIB = 1 << 30
READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::unique_consecutive"}
WHOLE = {torch.ops.aten.scaled_dot_product_attention.default}
"""One kernel on a GPU; here it would fall into the parts that have no such kernel."""
SD15_UNET = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD15_VAE = {
    "block_out_channels": (128, 256, 512, 512), "latent_channels": 4, "layers_per_block": 2, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
SDXL_UNET = {
    "sample_size": 128, "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20),
    "addition_embed_type": "text_time",
    "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10), "addition_time_embed_dim": 256,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), "use_linear_projection": True,
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


class Solver(DPMSolverMultistepScheduler):
    """DPM-Solver++ whose own tables are numbers, as they are on a CPU beside a GPU."""

    @classmethod
    def from_config(cls, config, **kwargs):
        with unset_fake_temporarily():
            return super().from_config(config, **kwargs)

    def set_timesteps(self, *args, **kwargs):
        with unset_fake_temporarily():
            super().set_timesteps(*args, **kwargs)
            self.set_begin_index(0)  # else it looks its first timestep up, which is a number of the CPU's


@dataclass
class Device(TorchDispatchMode):
    """Counts what reaches the device: operators but for views, values that the CPU waits for, bytes alive."""

    operators: int = 0
    captured: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)
    waits: Counter = field(default_factory=Counter)
    alive: int = 0
    peak: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self._tensors: Counter[int] = Counter()
        self._weights: set[int] = set()

    def leave_out(self, *networks: torch.nn.Module) -> None:
        """Views of their weights are no bytes beside the weights."""
        for network in networks:
            for tensor in (*network.parameters(), *network.buffers()):
                self._weights.add(tensor.untyped_storage()._cdata)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if (
            func.namespace == "aten"
            and func not in WHOLE
            and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
        ):
            with self:  # inference mode hands these on whole; a device sees their parts
                return func.decompose(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        on_device = any(t.device.type == "cuda" for t in given)
        if (on_device or any(t.device.type == "cuda" for t in made)) and not func.is_view:
            self.operators += 1
        to_cpu = on_device and any(t.device.type == "cpu" for t in made)
        if on_device and (name in READS or (to_cpu and not (kwargs or {}).get("non_blocking"))):
            self.waits[name] += 1
        for tensor in made:
            if tensor.device.type == "cuda":
                self._count(tensor)
        return out

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._weights:
            return
        self._tensors[key] += 1
        if self._tensors[key] == 1:
            self.alive += size
            self.peak = max(self.peak, self.alive)
        weakref.finalize(tensor, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._tensors[key] -= 1
        if not self._tensors[key]:
            self.alive -= size


class Event:
    """In place of `torch.cuda.Event`; a transfer that the CPU waited for since then means that it is over."""

    device: Device

    def record(self) -> None:
        self._at = sum(self.device.waits.values())

    def query(self) -> bool:
        return sum(self.device.waits.values()) > self._at

    def synchronize(self) -> None:
        self.device.waits["event"] += 1


def five_plans(engine: Engine, width: int, pooled: int) -> dict[str, Plan]:
    """The five methods as plans of one picture each; texts are made up, as encoders would give them."""

    def text(length: int = 77) -> Conditioning:
        whole = torch.empty(pooled, device="cuda", dtype=torch.float16) if pooled else None
        return Conditioning(torch.empty(length, width, device="cuda", dtype=torch.float16), pooled=whole)

    side = engine.backbone.defaults.height
    options = SamplingOptions((0,), STEPS, 7.5, side, side)
    prompt, empty = text(), text()

    def guided(cond: Conditioning, uncond: Conditioning) -> Plan:
        return Plan({"cond": (cond,), "uncond": (uncond,)}, ClassifierFreeGuidance(7.5), options)

    def edited(name: str) -> Plan:
        return guided(*(replace(text, projection=name) for text in (prompt, empty)))

    concepts = (Concept("toward", 4.0, 0.95, 1), Concept("away", 4.0, 0.95, 1, reverse=True))
    branches = {"cond": (prompt,), "uncond": (empty,), "toward": (text(),), "away": (text(),)}
    return {
        "stable_diffusion": guided(prompt, empty),
        "livo": guided(text(78), text(78)),
        "fair_diffusion": Plan(branches, SemanticGuidance(7.5, concepts, 0.5, 0.6), options),
        "uce": edited("uce"),
        "dapt": edited("dapt"),
    }


@pytest.fixture
def device(monkeypatch) -> Device:
    """A GPU that only counts; `known` answers as pictures that went apart at the first step."""
    device, names = Device(), itertools.count()

    def known(flags: torch.Tensor) -> list[bool]:
        device.waits["known"] += 1
        return [False] * len(flags)

    def agree(output: torch.Tensor, own: torch.Tensor) -> bool:
        device.waits["agree"] += 1
        return True

    class Graph:
        """What is captured is not launched; a replay is one launch."""

        def __enter__(self) -> None:
            self._before = device.operators

        def __exit__(self, *_: object) -> None:
            device.operators, device.captured = self._before, device.operators - self._before

        def replay(self) -> None:
            device.operators += 1

        def pool(self) -> None: ...

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool, capture_error_mode: graph)
    monkeypatch.setattr(captured_module, "agree", agree)
    monkeypatch.setattr(batch_module, "known", known)
    call = batch_module.Call.__call__

    def marked(self: batch_module.Call, *args: object) -> torch.Tensor:
        device.marks.append((device.operators, sum(device.waits.values())))
        return call(self, *args)

    monkeypatch.setattr(batch_module.Call, "__call__", marked)
    monkeypatch.setattr(batch_module, "digest", lambda embeds: str(next(names)))
    monkeypatch.setattr(torch.cuda, "Event", type("Event", (Event,), {"device": device}))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (78 * GIB, 80 * GIB))
    return device


def run(device: Device, unet: dict, width: int, pooled: int, side: int):
    """Compares five methods: (operators, waits) from each U-Net call to the next, the last report, the engine."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        torch.set_default_dtype(torch.float16)
        try:
            with torch.device("cuda"):
                net, vae = UNet2DConditionModel(**unet).eval(), AutoencoderKL(**SD15_VAE).eval()
        finally:
            torch.set_default_dtype(torch.float32)
        backbone = Backbone("fake", None, None, None, net, vae, SCHEDULER, Defaults(STEPS, 7.5, side, side))
        engine = Engine(backbone, scheduler_class=Solver, graphs=True)
        for name in ("uce", "dapt"):
            engine.add_projection(name, projection_weights(net))
        with device:
            plans = five_plans(engine, width, pooled)
            device.peak = device.alive
            *_, report = engine.stream(plans)
        device.marks.append((device.operators, sum(device.waits.values())))
    steps = [tuple(b - a for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(device.marks)]
    return steps, report, engine


@pytest.mark.parametrize(("unet", "width", "pooled", "side", "operators", "peak"), [
    pytest.param(SD15_UNET, 768, 0, 512, 1_600, 2.2, id="stable-diffusion-1.5"),
    pytest.param(SDXL_UNET, 2048, 1280, 1024, 4_000, 9.8, id="sdxl"),
])  # fmt: skip
def test_five_methods_are_one_call_a_step_and_the_cpu_hardly_waits(device, unet, width, pooled, side, operators, peak):
    steps, report, engine = run(device, unet, width, pooled, side)
    assert engine.memory_budget == 39 * GIB, "half of what is free"
    assert len(steps) == STEPS, "one call a step"
    assert report.rows == 10 + 12 * (STEPS - 1), "the methods share rows at the first step, while their latents are one"
    first, second, third, *middle, last = steps
    assert first[1] <= 2, "which pictures are still equal, and once a process the colours of the preview"
    assert second[0] <= operators and second[1] <= 1
    assert device.captured > 0.8 * operators and third[1] <= 2, "whether the graph does what the call does"
    assert all(step[0] <= 200 and step[1] <= 1 for step in middle), "what the graph reads, and the graph"
    assert last[1] <= 2, "the pictures"
    assert {tuple(images.shape) for images in report.images.values()} == {(1, 3, side, side)}
    assert device.peak <= peak * GIB, f"{device.peak / GIB:.2f} GiB beside the weights"


def test_texts_of_all_methods_cost_the_operators_of_one(device):
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    counted = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with torch.device("cuda"):
            encoder = CLIPTextModel(CLIPTextConfig(vocab_size=514, bos_token_id=512, eos_token_id=2, **sizes)).eval()
        text = ClipText(tiny_tokenizer(), encoder)
        for prompts in (["a photo of a doctor"], ["a photo of a doctor", "", "male person", "female person"]):
            before = device.operators
            with device:
                read = text.conditions(prompts)
            counted.append(device.operators - before)
            assert {own.prompt_embeds.shape for own in read} == {(77, 768)}
    assert max(counted) < 1_200 and not device.waits, "8,112 where five were encoded one by one"


def test_waiting_for_the_device_is_seen(device):
    with FakeTensorMode(allow_non_fake_inputs=True), device:
        tensor = torch.ones(3, device="cuda")
        before = device.operators
        (tensor + 1).to("cpu", non_blocking=True)
        assert not device.waits and device.operators > before
        tensor.cpu()
    assert device.waits == {"aten::_to_copy": 1} and device.alive <= tensor.nbytes


class FlowSolver(FlowMatchEulerDiscreteScheduler):
    """Flow matching's Euler steps whose own tables are numbers."""

    @classmethod
    def from_config(cls, config, **kwargs):
        with unset_fake_temporarily():
            return super().from_config(config, **kwargs)

    def set_timesteps(self, *args, **kwargs):
        with unset_fake_temporarily():
            super().set_timesteps(*args, **kwargs)


LARGE = {"num_layers": 2, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192,
         "qk_norm": "rms_norm"}  # fmt: skip
DEV = {"guidance_embeds": True, "num_layers": 1, "num_single_layers": 1}
"""At their real widths; blocks keep nothing, so that two of them take as much memory beside the weights as all."""


@pytest.mark.parametrize(("network", "config", "length", "row"), [
    pytest.param(SD3Transformer2DModel, LARGE, 333, 0.46, id="sd3.5-large"),
    pytest.param(FluxTransformer2DModel, DEV, 512, 0.58, id="flux-dev"),
])  # fmt: skip
def test_joint_attention_at_1024_pixels(device, network, config, length, row):
    """Stable Diffusion and LiVO, and Fair Diffusion where the model does not guide itself, one picture each."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device("cuda"):
                net = network(**config).eval()
                vae = AutoencoderKL(**SD15_VAE | {"latent_channels": 16}, shift_factor=0.06).eval()
        finally:
            torch.set_default_dtype(torch.float32)
        stored = {"shift": 3.0}
        backbone = Backbone("fake", None, None, None, net, vae, stored, Defaults(STEPS, 4.5, 1024, 1024))
        engine = Engine(backbone, scheduler_class=FlowSolver)
        width, pooled = engine.denoiser.text_width, engine.denoiser.pooled_width

        def text(length: int) -> Conditioning:
            like = {"device": "cuda", "dtype": torch.bfloat16}
            return Conditioning(torch.empty(length, width, **like), pooled=torch.empty(pooled, **like))

        options, prompt = SamplingOptions((0,), 3, 4.5, 1024, 1024), text(length)
        plans = {"sd": {"cond": (prompt,)}, "livo": {"cond": (text(length + 1),)}}
        guide = ClassifierFreeGuidance(1.0)
        if not engine.denoiser.guides_itself:
            empty, guide = text(length), ClassifierFreeGuidance(4.5)
            for branches in plans.values():
                branches["uncond"] = (empty,)
        made = {name: Plan(branches, guide, options) for name, branches in plans.items()}
        if not engine.denoiser.guides_itself:
            concepts = (Concept("toward", 4.0, 0.95, 1), Concept("away", 4.0, 0.95, 1, reverse=True))
            branches = {**plans["sd"], "toward": (text(length),), "away": (text(length),)}
            made["fair"] = Plan(branches, SemanticGuidance(4.5, concepts, 0.5, 0.6), options)
        calls = []
        net.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
        one = Plan({"cond": (prompt,)}, ClassifierFreeGuidance(1.0), options)
        device.leave_out(net, vae)
        with device:
            device.peak = start = device.alive
            engine.sample({"one": one})
            alone = device.peak - start
            calls.clear()
            device.peak = device.alive
            latents = engine.sample(made)
    estimate = engine.denoiser.row_bytes(128, 128)
    assert 0.5 * estimate < alone < 1.1 * estimate and abs(estimate / GIB - row) < 0.01
    shared, apart = (1, 1) if engine.denoiser.guides_itself else (4, 7)
    assert calls == [shared, 1, apart, 1, apart, 1], "a call a length; rows are shared while latents are one"
    assert {tuple(made.shape) for made in latents.values()} == {(1, 16, 128, 128)}
