"""The value encoder E^v: a copy of the text encoder whose pooled output, for "principle, prompt", is the value token.

`ValueEncoder` is that of Stable Diffusion 1.x, `TextValueEncoder` that of any other text side. Those of Stable
Diffusion 1.x, 3 and Flux can be trained here.

Source:
    Wang et al. 2024 (arXiv 2410.12700), Sec. 3.2, eq. 7: the context is E^v(v + x) ++ E^x(x).
"""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from livo.diffusion.backbones import Backbone, only_stable_diffusion, tokenize
from livo.diffusion.hub import HubError, fetch, is_hub_id
from livo.diffusion.joint_texts import ClipsAndT5, T5AndPooledClip, TrainableText
from livo.diffusion.model_files import not_finite
from livo.diffusion.text_encoders import ClipText, PromptEncoder
from livo.types import Artefact

WEIGHTS = "model.safetensors"
OLD_WEIGHTS = "pytorch_model.bin"
TRAINING = "training.json"
SUBFOLDER = "value_encoder"
PUBLISHED = ("adstellaria/LiVO", "achernarwang/LiVO")
"""Hub ids under which the paper's authors published E^v for Stable Diffusion 1.5."""
PREFIX = "text_model."
TRAIN = "python -m train.value_encoder"


class ValueEncoderError(RuntimeError):
    """A value encoder's files are missing, broken or made for another backbone; the message names the way out."""


def value_text(principle_text: str, prompt: str) -> str:
    """What E^v reads, v + x. Training and sampling build it here, so that they cannot differ."""
    return f"{principle_text}, {prompt}"


class ValueEncoder:
    """A CLIPTextModel and the tokenizer it shares with its backbone.

    Args:
        model: E^v; trainers update it in place.
        tokenizer: the backbone's.
        max_length: tokens of an encoded text, 77.
        artefact: its files and what training it took; None where it was not read from files.
    """

    def __init__(
        self, model: CLIPTextModel, tokenizer: CLIPTokenizer, max_length: int = 77, artefact: Artefact | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.artefact = artefact

    @classmethod
    def untrained(cls, backbone: Backbone) -> ValueEncoder:
        """E^v as training begins: a copy of the backbone's text encoder.

        Raises:
            BackboneError: the backbone reads through more than one CLIP encoder; see `TextValueEncoder`.
        """
        only_stable_diffusion(backbone, "a value encoder of one CLIP text encoder")
        return cls(copy.deepcopy(backbone.text_encoder), backbone.tokenizer, backbone.max_length)

    def tokenize(self, principle_text: str, prompt: str) -> Tensor:
        """(1, 77) ids of the value text on the model's device; too long a prompt loses its end."""
        ids = tokenize(self.tokenizer, value_text(principle_text, prompt), self.max_length)
        return ids.to(self.model.device)

    def pooled(self, input_ids: Tensor) -> Tensor:
        """(B, 77) ids -> (B, D) value tokens: the final-normed hidden state at each first end-of-text token.

        transformers finds that token by the config's `eos_token_id`; 2 means the largest id, as old CLIP files say.
        Gradients flow where the model's weights ask for them.
        """
        return self.model(input_ids, return_dict=False)[1]

    @torch.no_grad()
    def encode(self, principle_text: str, prompt: str) -> Tensor:
        """(D,) value token of a principle for a prompt, without gradients."""
        return self.pooled(self.tokenize(principle_text, prompt))[0]


class TextValueEncoder:
    """E^v of any other text side: a copy of SDXL's two CLIP encoders or PixArt's T5, of Stable Diffusion 3's two CLIP
    encoders without its T5, of Flux's T5 without its CLIP encoder.

    Args:
        text: reads through the copies.
        artefact: its files; None where it was not read from files.
    """

    def __init__(self, text: PromptEncoder, artefact: Artefact | None = None) -> None:
        self.text = text
        self.artefact = artefact
        self.model = nn.ModuleDict(dict(text.copied))

    @property
    def trainable(self) -> TrainableText:
        """The text side as trainers read it.

        Raises:
            TypeError: its copies cannot be trained here.
        """
        if not isinstance(self.text, (ClipsAndT5, T5AndPooledClip)):
            raise TypeError(f"no trainer reads a {type(self.text).__name__}")
        return self.text

    @classmethod
    def untrained(cls, backbone: Backbone) -> TextValueEncoder:
        """E^v as training would begin: the backbone's own encoders, copied."""
        return cls(backbone.text.over(copy.deepcopy(dict(backbone.text.copied))))

    def encode(self, principle_text: str, prompt: str) -> Tensor:
        """(D,) value token of a principle for a prompt: the final-normed hidden state at the end token, no gradients.

        Of SDXL's two encoders both states side by side, the second's before its projection.
        """
        return self.text.value(value_text(principle_text, prompt))


def save_value_encoder(
    model: CLIPTextModel, folder: str | Path, *, half: bool = False, training: Mapping[str, Any] | None = None
) -> None:
    """Writes config.json and model.safetensors that any transformers version loads as a CLIPTextModel.

    Args:
        model: E^v, or a `CLIPTextModel` in training.
        folder: made where missing.
        half: store float16, half the size; loading widens it again.
        training: what it took, such as `{"seconds": 545.0, "images": 32000, "steps": 1000, "command": "python -m
            train.value_encoder"}`; kept as JSON in the weights' header.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if half else torch.float32
    # transformers before 5 finds the weights under this prefix only, and starts from random ones without it.
    state = {
        PREFIX + key.removeprefix(PREFIX): tensor.detach().to("cpu", dtype).contiguous()
        for key, tensor in model.state_dict().items()
    }
    config = copy.deepcopy(model.config)
    config.architectures = ["CLIPTextModel"]
    config.dtype = dtype
    config.save_pretrained(folder)
    partial = folder / f"{WEIGHTS}.partial"
    save_file(state, partial, {"format": "pt"} | ({} if training is None else {"training": json.dumps(dict(training))}))
    partial.replace(folder / WEIGHTS)  # a killed training leaves the last whole file


def save_encoder(
    encoder: ValueEncoder | TextValueEncoder,
    folder: str | Path,
    *,
    half: bool = False,
    training: Mapping[str, Any] | None = None,
) -> None:
    """As `save_value_encoder`; of a `TextValueEncoder` a folder for each copy, and training.json beside them."""
    if isinstance(encoder, ValueEncoder):
        save_value_encoder(encoder.model, folder, half=half, training=training)
        return
    for name, own in encoder.text.copied.items():
        state = {key: weight.detach().half() if half else weight.detach() for key, weight in own.state_dict().items()}
        own.save_pretrained(Path(folder) / name, state_dict=state)
    if training is not None:
        (Path(folder) / TRAINING).write_text(json.dumps(dict(training)), encoding="utf-8")


def find_value_encoder(source: str | Path) -> Path:
    """The folder with E^v's config.json: a folder itself or its `value_encoder/`, or the same of a hub id, downloaded.

    Raises:
        ValueEncoderError: the source is neither, or the hub cannot be reached or has no such files.
    """
    folder = Path(source)
    if folder.is_dir():
        inside = folder / SUBFOLDER
        return inside if inside.is_dir() and not (folder / "config.json").is_file() else folder
    known = f"give a folder with config.json and {WEIGHTS}, or a hub id such as {PUBLISHED[0]}"
    if not is_hub_id(str(source)):
        raise ValueEncoderError(f"there is no value encoder folder {source}: {known}")
    names = ("config.json", WEIGHTS, OLD_WEIGHTS)
    try:
        return find_value_encoder(fetch(str(source), [*names, *(f"{SUBFOLDER}/{name}" for name in names)]))
    except HubError as error:
        raise ValueEncoderError(
            f"the value encoder cannot be had from the hub ({error}): check the id and the network, or {known}"
        ) from error


def load_value_encoder(folder: str | Path, backbone: Backbone, train: str = TRAIN) -> ValueEncoder | TextValueEncoder:
    """Loads E^v: as float32, beside whatever precision the backbone runs in; for SDXL and PixArt in the backbone's own.

    Args:
        folder: config.json and model.safetensors (or an old pytorch_model.bin), keys with or without the `text_model.`
            prefix. What training took may be missing, as in published files. For SDXL and PixArt a folder for each of
            the backbone's encoders, `text_encoder/` and `text_encoder_2/`, as `save_pretrained` writes it.
        backbone: whose tokenizer it reads and whose texts its token joins.
        train: the command that makes such an encoder, for the error messages.

    Raises:
        ValueEncoderError: a file is missing or broken, or the width is not the backbone's.
    """
    folder = Path(folder)
    way_out = f"`{train} --backbone {shlex.quote(backbone.name)}` trains one"
    if isinstance(backbone.text, (ClipsAndT5, T5AndPooledClip)):
        return _load_copies(folder, backbone, way_out)
    if not isinstance(backbone.text, ClipText):
        none = "put trained copies of the backbone's text encoders there; none are published or trained here"
        return _load_copies(folder, backbone, none)
    weights = folder / (
        OLD_WEIGHTS if not (folder / WEIGHTS).is_file() and (folder / OLD_WEIGHTS).is_file() else WEIGHTS
    )
    for path in (folder / "config.json", weights):
        if not path.is_file():
            raise ValueEncoderError(f"there is no value encoder: {path} is missing; {way_out}")
    try:
        stored, training = _read_weights(weights)
    except (OSError, SafetensorError, ValueError, RuntimeError, UnpicklingError) as error:
        raise ValueEncoderError(f"{weights} cannot be read ({error}); restore it, or {way_out}") from error
    try:
        config = CLIPTextConfig.from_pretrained(folder)
        width, wanted = config.hidden_size, backbone.text_encoder.config.hidden_size
        if width != wanted:
            raise ValueEncoderError(
                f"{folder} gives value tokens of width {width}, backbone {backbone.name} reads {wanted}: it was made "
                f"for another backbone; {way_out}"
            )
        state = {key.removeprefix(PREFIX): tensor for key, tensor in stored.items()}
        state.pop("embeddings.position_ids", None)  # a buffer that old files store
        if (key := not_finite(state)) is not None:
            raise ValueEncoderError(f"{weights} holds a weight that is no number ({key}); restore it, or {way_out}")
        model = CLIPTextModel(config)
        # Strict, unlike from_pretrained: a missing tensor must not become a random one.
        model.load_state_dict({key: tensor.float() for key, tensor in state.items()}, strict=True)
    except (OSError, ValueError, KeyError) as error:
        raise ValueEncoderError(f"{folder / 'config.json'} cannot be used ({error}); {way_out}") from error
    except RuntimeError as error:
        if isinstance(error, ValueEncoderError):
            raise
        raise ValueEncoderError(f"{weights} does not fit its config.json ({error}); {way_out}") from error
    model = model.float().eval().requires_grad_(False).to(backbone.device)
    size = sum(path.stat().st_size for path in (folder / "config.json", weights))
    return ValueEncoder(model, backbone.tokenizer, backbone.max_length, Artefact(size, training))


def _load_copies(folder: Path, backbone: Backbone, way_out: str) -> TextValueEncoder:
    encoders = {}
    for name, own in backbone.text.copied.items():
        part = folder / name
        if not (part / "config.json").is_file():
            raise ValueEncoderError(f"there is no value encoder: {part / 'config.json'} is missing; {way_out}")
        try:
            encoder, loading = type(own).from_pretrained(part, dtype=own.dtype, output_loading_info=True)
        except (OSError, SafetensorError, ValueError, RuntimeError, KeyError) as error:
            raise ValueEncoderError(f"{part} cannot be read ({error}); {way_out}") from error
        if missing := sorted(loading["missing_keys"]):  # they would be random
            raise ValueEncoderError(f"{part} lacks {len(missing)} weights, such as {missing[0]}; {way_out}")
        width, wanted = encoder.config.hidden_size, own.config.hidden_size
        if width != wanted:
            raise ValueEncoderError(f"{part} has width {width}, backbone {backbone.name}'s {name} {wanted}; {way_out}")
        if (key := not_finite(encoder.state_dict())) is not None:
            raise ValueEncoderError(f"{part} holds a weight that is no number ({key}); {way_out}")
        encoders[name] = encoder.eval().requires_grad_(False).to(backbone.device)
    size = sum(path.stat().st_size for name in encoders for path in (folder / name).glob("*") if path.is_file())
    kept = folder / TRAINING
    training = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    return TextValueEncoder(backbone.text.over(encoders), Artefact(size, training))


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and what training took; nothing in a file is run."""
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True), {}
    with safe_open(path, "pt") as file:
        training = json.loads((file.metadata() or {}).get("training", "{}"))
    return load_file(path), training
