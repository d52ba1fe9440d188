"""A LoRA merged into the shared trunk, for all methods alike: W + weight * (alpha / rank) B A, once, at load.

diffusers reads it, whatever its dialect, and peft does the sum; both only where a LoRA is asked for. Methods that bring
key and value weights of their own read texts through those, without the LoRA's part in them.

Source:
    Hu et al. 2021 (arXiv 2106.09685), Sec. 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from torch import nn

from livo.diffusion.backbones import STABLE_DIFFUSION_1, STABLE_DIFFUSION_2, Backbone, BackboneError
from livo.diffusion.model_files import check_weights, first_line, kind_of_weights, not_finite


def parse_lora(given: str) -> tuple[Path, float]:
    """File and weight of `FILE[:weight]`.

    Raises:
        BackboneError: the weight is not from -10 to 10.

    Example:
        >>> parse_lora("style.safetensors"), parse_lora("a:b.safetensors:0.5")
        ((PosixPath('style.safetensors'), 1.0), (PosixPath('a:b.safetensors'), 0.5))
    """
    name, colon, number = given.rpartition(":")
    try:
        weight = float(number) if colon else 1.0
    except ValueError:
        return Path(given), 1.0
    if not -10 <= weight <= 10:
        raise BackboneError(f"--lora {given}: a weight of {number} cannot be used; give -10 to 10, such as FILE:0.8")
    return Path(name or given), weight


def layers_of(names: Iterable[str]) -> tuple[set[str], set[str]]:
    """The layers of which a LoRA's file holds A, and those of which it holds B, in any dialect.

    Example:
        >>> layers_of(["unet.a.lora_A.weight", "unet.a.alpha", "te_b.lora_up.weight"])
        ({'unet.a'}, {'te_b'})
    """
    found: tuple[set[str], set[str]] = (set(), set())
    for name in names:
        for half, ends in zip(found, (r"lora_A|lora[._]down|down", r"lora_B|lora[._]up|up"), strict=True):
            if match := re.fullmatch(rf"(.+?)[._](?:{ends})\.(?:\w+\.)?weight", name):
                half.add(match[1])
    return found


def _merged_layers(network: nn.Module) -> int:
    return sum(len(getattr(module, "lora_A", {})) for module in network.modules())


def merge_lora(backbone: Backbone, given: str) -> None:
    """Adds a LoRA to the weights of a backbone that no engine has yet.

    Args:
        given: `FILE[:weight]`, a .safetensors file.

    Raises:
        BackboneError: peft is not installed, the file is no LoRA or does not fit, or the backbone is of another kind
            than Stable Diffusion 1.x and 2.x.
    """
    path, weight = parse_lora(given)
    if backbone.kind not in (STABLE_DIFFUSION_1, STABLE_DIFFUSION_2):
        raise BackboneError(f"--lora works with Stable Diffusion 1.x and 2.x, and {backbone.name} is {backbone.kind}: "
                            "merge it into the model with diffusers, and give the folder")  # fmt: skip
    if (wrong := check_weights(path)) is not None:
        raise BackboneError(f"--lora {path} cannot be read: {wrong}")
    state = load_file(path)
    if not (kind := kind_of_weights(state) or "of an unknown kind").startswith("a LoRA"):
        raise BackboneError(f"--lora {path} is no LoRA; it is {kind}")
    if (name := not_finite(state)) is not None:
        raise BackboneError(f"--lora {path} holds a weight that is no number ({name}): give another copy")
    if find_spec("peft") is None:
        raise BackboneError(f"--lora {path} is merged by peft, which is not installed: `pip install peft`")
    down, up = layers_of(state)
    if half := sorted(down ^ up):  # the library would fill in the other half with random numbers
        raise BackboneError(f"--lora {path} holds half of a layer ({half[0]}): give another copy")
    parts = {"unet": backbone.unet, "text_encoder": backbone.text_encoder}
    before = {part: sorted(network.state_dict()) for part, network in parts.items()}
    pipe = StableDiffusionPipeline(
        **parts, vae=backbone.vae, tokenizer=backbone.tokenizer, scheduler=None, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    try:
        pipe.load_lora_weights(dict(state), adapter_name="lora")
        touched = [part for part, network in parts.items() if getattr(network, "peft_config", None)]
        if not touched:
            raise ValueError("none of its layers is one of the model's")
        merged = sum(_merged_layers(network) for network in parts.values())
        if merged < len(down):
            raise ValueError(f"{len(down) - merged} of its {len(down)} layers are none of the model's")
        pipe.fuse_lora(components=touched, lora_scale=weight)
        pipe.unload_lora_weights()
    except Exception as error:  # whatever the libraries make of layers that are not there
        raise BackboneError(
            f"--lora {path} does not fit {backbone.name} ({first_line(error)}): give one that was made for this kind "
            "of model"
        ) from error
    for part, network in parts.items():
        if sorted(network.state_dict()) != before[part]:
            raise BackboneError(f"--lora {path} leaves layers of its own in {part}: merge it with diffusers first")
        network.eval().requires_grad_(False)
