"""What an image costs: floating point operations of the denoiser, the part that decides."""

from __future__ import annotations

import functools
import json

import torch
from torch.utils.flop_counter import FlopCounterMode

from livo.diffusion.denoiser import NETWORKS, Denoiser, DenoiserNet
from livo.diffusion.denoisers import denoiser_of


def row_flop(unet: DenoiserNet, height: int, width: int, tokens: int = 77) -> int:
    """Operations of one row: one latent of height x width under one text of `tokens` tokens.

    A multiplication and its addition are two. Counted on a network without weights, so it costs no memory; the engine
    projects texts once a run and not at every step, which takes off less than 1 % of Stable Diffusion's. Of Stable
    Diffusion 3 and Flux, whose blocks work on the text at every step, the count is exact.
    """
    config = json.dumps(dict(unet.config), sort_keys=True, default=str)
    return _row_flop(type(unet).__name__, config, height, width, tokens)


@functools.lru_cache(maxsize=32)
def _row_flop(network: str, config: str, height: int, width: int, tokens: int) -> int:
    denoiser = _without_weights(network, config)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        latents = torch.empty(1, denoiser.in_channels, height, width)
        pooled = torch.empty(1, denoiser.pooled_width) if denoiser.pooled_width else None
        scales = torch.empty(1) if denoiser.guides_itself else None
        conditions = denoiser.conditions(1, pooled, (height, width), scales)
        denoiser(latents, torch.tensor(1), conditions, prompt_embeds=torch.empty(1, tokens, denoiser.text_width))
    return counter.get_total_flops()


@functools.lru_cache(maxsize=2)
def _without_weights(network: str, config: str) -> Denoiser:
    with torch.device("meta"):
        return denoiser_of(NETWORKS[network].from_config(json.loads(config)))
