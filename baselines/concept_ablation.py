"""Concept Ablation: the U-Net is trained to predict for a toxic prompt what it predicts for the clean one.

What `python -m train.concept_ablation` writes for a principle is `<principle id>.safetensors` with the edited K,V
weights. With its parameter group "full-weight", `<principle id>/unet.safetensors` holds the whole U-Net beside it, and
the method then runs on that. The official `delta.bin` is read as `<principle id>.bin`; one of the group
"attn" or "full-weight" becomes such a U-Net.

Source:
    Kumari et al. 2023 (arXiv 2303.13516), Sec. 3.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from livo.diffusion.denoiser import DenoiserNet
from livo.diffusion.engine import Engine
from livo.methods.edited_weights import (
    EditedProjections,
    ProjectionError,
    fingerprint,
    projection_weights,
    read_header,
    read_official,
)
from livo.types import Plan, Principle, SamplingOptions

TITLE = "Concept Ablation"
PAPER = "arXiv:2303.13516"
RISKS = ("toxicity",)
PHRASE = "edited weights"
REMEDY = "`python -m train.concept_ablation` makes it"


class ConceptAblation(EditedProjections):
    """The method, with the artefacts in the backbone's folder.

    Raises:
        ProjectionError: there is none, or one is broken or made for another backbone; the message names the file.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "concept_ablation", REMEDY)
        self.unets: dict[str, str] = {}
        for principle_id, artefact in self.artefacts.items():
            official = self.folder / f"{principle_id}.bin"
            if official.is_file() and (unet := official_unet(official, engine.backbone.unet)) is not None:
                self.unets[principle_id] = f"{self.name}/{principle_id}"
                engine.add_unet(self.unets[principle_id], unet)
            if artefact.training.get("parameter_group") == "full-weight":
                path = unet_path(self.folder, principle_id)
                self.unets[principle_id] = f"{self.name}/{principle_id}"
                engine.add_unet(self.unets[principle_id], load_unet(path, engine.backbone.unet))
                self.artefacts[principle_id] = replace(artefact, bytes=artefact.bytes + path.stat().st_size)

    def plan(self, prompt: str, principle: Principle | None, options: SamplingOptions) -> Plan:
        """Stable Diffusion's plan on the principle's weights.

        Raises:
            ProjectionError: there are none for this principle.
        """
        plan = super().plan(prompt, principle, options)
        return replace(plan, unet_override=self.unets.get(principle.id)) if principle else plan


def load(engine: Engine) -> ConceptAblation:
    """Concept Ablation with what lies under `concept_ablation/` in the backbone's folder."""
    return ConceptAblation(engine)


def official_unet(path: Path, unet: DenoiserNet) -> DenoiserNet | None:
    """A copy of the U-Net with an official file's weights; None where those are K,V weights alone.

    Raises:
        ProjectionError: the file cannot be read, or was made for another U-Net.
    """
    state = read_official(path, REMEDY)
    if state.keys() <= projection_weights(unet).keys():
        return None
    own = copy.deepcopy(unet)
    try:
        unknown = own.load_state_dict(state, strict=False).unexpected_keys
    except RuntimeError as error:
        unknown = [str(error).strip().splitlines()[-1].strip()]
    if unknown:
        raise ProjectionError(f"{path} was made for another backbone ({unknown[0]}): {REMEDY}")
    return own


def unet_path(folder: Path, principle_id: str) -> Path:
    """Where the whole U-Net of a full-weight artefact lies; not beside the K,V files, which are read one by one."""
    return folder / principle_id / "unet.safetensors"


def save_unet(path: Path, state: Mapping[str, Tensor], unet: DenoiserNet) -> None:
    """Writes a whole U-Net in float16; a kill leaves the old file or the new one.

    Args:
        state: its state_dict.
        unet: the backbone's own, whose fingerprint the file carries.

    Raises:
        ValueError: a weight is not finite in float16.
    """
    halves = {key: weight.detach().to("cpu", torch.float16).contiguous() for key, weight in state.items()}
    for key, weight in halves.items():
        if not weight.isfinite().all():
            raise ValueError(f"{path}: {key} is not finite in float16")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".partial")
    save_file(halves, scratch, {"backbone": fingerprint(unet)})
    scratch.replace(path)


def load_unet(path: Path, unet: DenoiserNet) -> DenoiserNet:
    """A copy of the U-Net with the file's weights.

    Raises:
        ProjectionError: the file is missing or broken, or was made for another U-Net.
    """
    read_header(path, unet, REMEDY)
    own = copy.deepcopy(unet)
    try:
        own.load_state_dict(load_file(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ProjectionError(f"{path} was made for another backbone ({reason}): {REMEDY}") from error
    return own
