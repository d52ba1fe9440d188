"""Cross-attention that reads text keys and values handed to it, instead of projecting the text at every step.

K and V of a text depend on neither the latents nor the timestep, so the engine projects each distinct text once per
layer (`project_texts`) and puts those of a call's rows together once a layout (`gather`); the steps only read them.
That is also how methods with edited `to_k`/`to_v` share one U-Net: their weights are used here and never written into
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

LayerKV = Mapping[str, tuple[Tensor, Tensor]]
"""By layer name: keys and values, each (U, heads, L, D / heads) for U distinct texts of one length."""


@dataclass(frozen=True)
class KVGroup:
    """The rows of one U-Net call whose texts have the same length.

    Attributes:
        rows: which rows of the call, neighbours.
        layers: keys and values of the n rows, as `gather` puts them together once for all steps.
    """

    rows: slice
    layers: LayerKV


def gather(layers: LayerKV, index: Tensor) -> LayerKV:
    """Keys and values of n rows from those of U texts; `index` (n,) long says which text each row reads."""
    return {name: (key.index_select(0, index), value.index_select(0, index)) for name, (key, value) in layers.items()}


class TextAttnProcessor(AttnProcessor2_0):
    """Ordinary diffusers attention, unless a call passes `cross_attention_kwargs={"text_kv": groups}`.

    It holds its layer's name and nothing of a run, so runs on one U-Net cannot interfere, and a
    `StableDiffusionPipeline` over the same U-Net works as before.
    """

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        text_kv: Sequence[KVGroup] | None = None,
    ) -> Tensor:
        """(rows, h*w, C) -> (rows, h*w, C); `text_kv`'s groups cover the rows in order."""
        if text_kv is None or not attn.is_cross_attention:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        query = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        attended = []
        for group in text_kv:  # one maskless call per length: a mask would rule out the fast kernels
            attended.append(F.scaled_dot_product_attention(query[group.rows], *group.layers[self.layer]))
        out = attended[0] if len(attended) == 1 else torch.cat(attended)
        out = attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor


def cross_attention_layers(unet: ModelMixin) -> dict[str, Attention]:
    """The attention modules that read text (`attn2`), by module name; 16 in Stable Diffusion 1.x."""
    return {n: m for n, m in unet.named_modules() if isinstance(m, Attention) and m.is_cross_attention}


def install(unet: ModelMixin) -> None:
    """Puts a `TextAttnProcessor` on every attention module. Weights and state_dict keys stay as they are."""
    unet.set_attn_processor({key: TextAttnProcessor(key.removesuffix(".processor")) for key in unet.attn_processors})


def check_projection(unet: ModelMixin, name: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Edited K,V weights as the engine keeps them: by module name, on the U-Net's device, in its dtype.

    Args:
        unet: whose `to_k` and `to_v` they stand in for.
        name: of the edit, for the messages.
        weights: `<module>.to_k` and `<module>.to_v`, with or without `.weight`, every one of them. Biases, which PixArt
            has there, stay the network's own.

    Raises:
        ValueError: a module is missing, unknown, or its weight has another shape.
    """
    base = {
        f"{layer}.{part}": getattr(attn, part).weight
        for layer, attn in cross_attention_layers(unet).items()
        for part in ("to_k", "to_v")
    }
    given = {key.removesuffix(".weight"): weight for key, weight in weights.items()}
    if missing := sorted(base.keys() - given.keys()):
        raise ValueError(f"projection {name!r} lacks {len(missing)} of {len(base)} weights, such as {missing[0]}")
    if unknown := sorted(given.keys() - base.keys()):
        raise ValueError(f"projection {name!r} names {unknown[0]}, which is no to_k or to_v of this U-Net's attn2")
    for key, weight in given.items():
        if weight.shape != base[key].shape:
            raise ValueError(
                f"projection {name!r}: {key} has shape {tuple(weight.shape)}, this U-Net wants {tuple(base[key].shape)}"
            )
    # A copy: what the caller does with its own tensors later must not reach images.
    return {key: weight.detach().to(base[key], copy=True) for key, weight in given.items()}


def project_texts(unet: ModelMixin, prompt_embeds: Tensor, weights: Mapping[str, Tensor] | None) -> LayerKV:
    """Keys and values of U texts of one length at every cross-attention layer.

    Args:
        unet: its own `to_k`, `to_v` are used where `weights` is None.
        prompt_embeds: (U, L, D).
        weights: edited weights as `check_projection` returns them.
    """
    layers = {}
    for name, attn in cross_attention_layers(unet).items():
        embeds = attn.norm_encoder_hidden_states(prompt_embeds) if attn.norm_cross else prompt_embeds
        projected = []
        for part in ("to_k", "to_v"):
            linear = getattr(attn, part)
            weight = linear.weight if weights is None else weights[f"{name}.{part}"]
            projected.append(F.linear(embeds, weight, linear.bias).unflatten(-1, (attn.heads, -1)).transpose(1, 2))
        key, value = projected
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        layers[name] = (key.contiguous(), value.contiguous())
    return layers
