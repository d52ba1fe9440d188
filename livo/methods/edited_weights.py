"""Edited cross-attention weights as files: what UCE, Concept Ablation and DAPT leave behind.

A file holds `to_k` and `to_v` of every attn2 layer, the whole new weights and not their differences, in float16; that
is 2 % of a U-Net. Its header names the backbone it was made for and what making it took. One file a principle, under
`<backbone folder>/<method>/<principle id>.safetensors`.

Files of the official repositories are read too, under the same names: UCE's safetensors as they are (their headers say
nothing), Concept Ablation's `delta.bin` and UCE's old `.pt` as `<principle id>.bin` or `.pt`. Nothing in them is run.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from livo.diffusion.attention import check_projection, cross_attention_layers
from livo.diffusion.backbones import STABLE_DIFFUSION_1, Backbone
from livo.diffusion.engine import Engine, classifier_free_plan
from livo.diffusion.model_files import check_weights, not_finite
from livo.types import Artefact, Lacking, Plan, Principle, SamplingOptions

OFFICIAL = (".bin", ".pt")


class ProjectionError(Lacking):
    """A file of edited weights is missing, broken or made for another backbone; the message names the way out."""


def projection_weights(unet: nn.Module) -> dict[str, Tensor]:
    """The U-Net's own `<module>.to_k.weight` and `<module>.to_v.weight` of attn2, by name: not copies.

    32 matrices of shape (out, D) in Stable Diffusion 1.x.
    """
    return {
        f"{layer}.{part}.weight": getattr(attn, part).weight
        for layer, attn in cross_attention_layers(unet).items()
        for part in ("to_k", "to_v")
    }


def fingerprint(unet: nn.Module) -> str:
    """Which U-Net this is: a digest of its K and V weights as float16, the same whatever precision it was loaded in.

    bfloat16 has too few digits for that; such a U-Net answers the empty string, and only shapes are compared.
    """
    if unet.dtype == torch.bfloat16:
        return ""
    parts = hashlib.sha256()
    for name, weight in sorted(projection_weights(unet).items()):
        parts.update(name.encode() + weight.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
    return parts.hexdigest()[:16]


def save_projection(
    path: str | Path, weights: Mapping[str, Tensor], unet: nn.Module, training: Mapping[str, Any]
) -> None:
    """Writes the file; a kill leaves the old one or the new one.

    Args:
        path: its folder is made where missing.
        weights: every `to_k` and `to_v` of attn2, with or without `.weight`.
        unet: the backbone's own, as it was before the edit.
        training: what making it took, such as `{"seconds": 81.2, "images": 4000, "command": "python -m train.uce"}`.

    Raises:
        ValueError: a weight is missing, unknown, of another shape, or not finite in float16.
    """
    path = Path(path)
    checked = check_projection(unet, path.stem, weights)
    state = {f"{key}.weight": weight.to("cpu", torch.float16).contiguous() for key, weight in checked.items()}
    for key, weight in state.items():
        if not weight.isfinite().all():
            raise ValueError(f"projection {path.stem!r}: {key} is not finite in float16")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".partial")
    save_file(state, scratch, {"backbone": fingerprint(unet), "training": json.dumps(dict(training))})
    scratch.replace(path)


def load_projection(path: str | Path, unet: nn.Module, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Edited weights, and what making them took.

    Args:
        path: the file.
        unet: the backbone's own, which the file must have been made for.
        remedy: what a person should do without it, such as "`python -m train.uce` makes it".

    Raises:
        ProjectionError: the file is missing or broken, or was made for another U-Net.
    """
    path = Path(path)
    if path.suffix in OFFICIAL:
        metadata, state = {}, read_official(path, remedy)
        weights = {key: state[key] for key in projection_weights(unet) if key in state}
    else:
        metadata = read_header(path, unet, remedy)
        weights = load_file(path)
    try:
        check_projection(unet, path.stem, weights)
    except ValueError as error:
        raise ProjectionError(f"{path} was made for another backbone ({error}): {remedy}") from error
    if (key := not_finite(weights)) is not None:
        raise ProjectionError(f"{path} holds a weight that is no number ({key}): {remedy}")
    return weights, json.loads(metadata.get("training", "{}"))


def read_official(path: Path, remedy: str) -> dict[str, Tensor]:
    """U-Net weights by name from a file that torch.save wrote: Concept Ablation's `delta.bin`, UCE's old `.pt`.

    Either the weights themselves, or under the key "unet". A file that wants to run code is refused.

    Raises:
        ProjectionError: the file is missing, broken, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ProjectionError(f"{path} cannot be read safely ({reason}): {remedy}") from error
    state = state.get("unet", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not state or not all(isinstance(weight, Tensor) for weight in state.values()):
        raise ProjectionError(f"{path} holds no U-Net weights by name: {remedy}")
    return state


def read_header(path: Path, unet: nn.Module, remedy: str) -> dict[str, str]:
    """Metadata of a file of edited weights.

    Raises:
        ProjectionError: the file is missing or broken, or was made for other weights than the U-Net's.
    """
    if not path.is_file():
        raise ProjectionError(f"{path} is missing: {remedy}")
    if (wrong := check_weights(path)) is not None:
        raise ProjectionError(f"{path} cannot be read ({wrong}): {remedy}")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    made_for, this = metadata.get("backbone", ""), fingerprint(unet)
    if made_for and this and made_for != this:
        raise ProjectionError(f"{path} was made for other weights of this backbone ({made_for}, not {this}): {remedy}")
    return metadata


def check_that_it_applies(engine: Engine) -> None:
    """Whether there is anything to edit: layers that read the text alone.

    Raises:
        ProjectionError: the backbone is Stable Diffusion 3 or Flux.
    """
    if not engine.denoiser.reads_projected:
        raise ProjectionError(
            f"does not apply to {engine.backbone.kind}: it edits the weights of cross-attention, which such a model "
            "does not have; concepts are erased there by LoRA on joint attention (EraseAnything, arXiv:2412.20413)"
        )


class EditedProjections:
    """A method that consists of edited K,V weights, one file a principle. Without a principle it is the base model.

    Args:
        engine: the weights are made known to it at once.
        name: of the method; files are under `<backbone folder>/<name>/`.
        remedy: what a person should do where a file is missing, with the command in backticks.

    Raises:
        ProjectionError: the method's folder holds no file, a file is unusable, or the backbone has no cross-attention.
    """

    def __init__(self, engine: Engine, name: str, remedy: str) -> None:
        check_that_it_applies(engine)
        folder, remedy = engine.backbone.folder / name, for_backbone(remedy, engine.backbone)
        self.engine, self.name, self.remedy, self.folder = engine, name, remedy, folder
        self.artefacts: dict[str, Artefact] = {}
        for path in sorted(p for p in folder.glob("*") if p.suffix in (".safetensors", *OFFICIAL)):
            if path.stem in self.artefacts:
                raise ProjectionError(f"{folder} has two files for {path.stem}: leave one of them there")
            weights, training = load_projection(path, engine.backbone.unet, remedy)
            engine.add_projection(self._projection(path.stem), weights)
            self.artefacts[path.stem] = Artefact(path.stat().st_size, training)
        if not self.artefacts:
            raise ProjectionError(f"{folder} holds no edited weights: {remedy}")

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan:
        """Stable Diffusion's plan, with both branches read through the principle's weights.

        Raises:
            ProjectionError: there is no file for this principle.
        """
        if principle is not None and principle.id not in self.artefacts:
            raise ProjectionError(f"{self.folder / principle.id}.safetensors is missing: {self.remedy}")
        projection = "base" if principle is None else self._projection(principle.id)
        return classifier_free_plan(self.engine, [self.engine.condition(prompt, projection)], options)

    def artefact(self, principle: Principle | None) -> Artefact | None:
        """What the method adds to the backbone for this principle."""
        return None if principle is None else self.artefacts.get(principle.id)

    def _projection(self, principle_id: str) -> str:
        return f"{self.name}/{principle_id}"


def for_backbone(remedy: str, backbone: Backbone) -> str:
    """The remedy with the backbone in its command; the miniature is what commands take without.

    The commands make edits of Stable Diffusion 1.x only.

    Example:
        >>> from types import SimpleNamespace
        >>> backbone = SimpleNamespace(name="my models/sd", kind="Stable Diffusion 1.x")
        >>> for_backbone("`python -m train.uce` makes it", backbone)
        "`python -m train.uce --backbone 'my models/sd'` makes it"
    """
    if backbone.kind != STABLE_DIFFUSION_1:
        return f"no command here makes it for {backbone.kind}; put weights there that were made elsewhere"
    if backbone.name == "miniature":
        return remedy
    return re.sub("`(python -m [^`]*)`", lambda found: f"`{found[1]} --backbone {shlex.quote(backbone.name)}`", remedy)
