"""What the tests of the engine share: plans by prompt, final latents, edited weights."""

from __future__ import annotations

import hashlib

import torch

from livo.diffusion.attention import cross_attention_layers
from livo.diffusion.engine import classifier_free_plan
from livo.types import Conditioning, Plan

PROMPT = "a photo of a doctor"


def text_plan(engine, prompt, options, projection="base", unet_override=None, value=None) -> Plan:
    """Stable Diffusion's plan; `value` (D,) is prepended as a 78th token."""
    embeds = engine.encode_prompt(prompt)
    if value is not None:
        embeds = torch.cat([value[None].to(embeds), embeds])
    return classifier_free_plan(engine, [Conditioning(embeds, projection)], options, unet_override=unet_override)


def latents_of(engine, plans, monkeypatch) -> dict[str, torch.Tensor]:
    """Final latents by plan: `generate` with the decoder left out, so that float64 differences show."""
    with monkeypatch.context() as patch:
        patch.setattr("livo.diffusion.engine.decode", lambda vae, latents, budget: latents)
        return engine.generate(plans)


def state_hash(module) -> str:
    parts = [key.encode() + t.numpy().tobytes() for key, t in sorted(module.state_dict().items())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def edited_weights(unet, seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = [f"{layer}.{part}" for layer in cross_attention_layers(unet) for part in ("to_k", "to_v")]
    weights = {key: unet.get_submodule(key).weight for key in keys}
    weights = {f"{key}.weight": weight for key, weight in weights.items()}
    return {k: w + 0.2 * torch.randn(w.shape, generator=generator, dtype=w.dtype) for k, w in weights.items()}
