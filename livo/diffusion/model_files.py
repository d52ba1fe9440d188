"""What lies in a model's folder or file: which weights are to be read, and what a file is that cannot be used.

Names and first bytes decide here; nothing is loaded. People bring half-precision copies, renamed files, web pages saved
under a model's name: each is told its true reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import safe_open

VARIANTS = ("", "fp16", "bf16")
"""Of the same weights, in the order in which they are taken; others, such as `non_ema`, come after them."""
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>[a-z0-9_]+))?"
    r"(?:-(?P<shard>\d{5})-of-(?P<shards>\d{5}))?\.(?P<suffix>safetensors|bin)",
    re.IGNORECASE,
)
_AGAIN = "download or copy it again"
_HEADS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "this is a Git LFS pointer, not the weights: run `git lfs pull` in its folder"),
    (b"GGUF", "this is a GGUF file, quantised for other programs: give the model's .safetensors or diffusers folder"),
    (b"\x00\x05\x16\x07", "this is a resource file of macOS, not weights: delete it and give the file without '._'"),
    (b"PK\x03\x04", "this is a zip archive or a PyTorch file, not safetensors: unpack it, or convert it"),
    (b"\x80", "this is a pickle of PyTorch, not safetensors, and may run code: convert it to .safetensors"),
    (b"\x1f\x8b", "this is a gzip archive, not weights: unpack it"),
    (b"7z\xbc\xaf", "this is a 7z archive, not weights: unpack it"),
    (b"Rar!", "this is a rar archive, not weights: unpack it"),
    (b"\x89PNG", "this is a picture, not weights: the model is the file that belongs to it"),
    (b"\xff\xd8\xff", "this is a picture, not weights: the model is the file that belongs to it"),
    (b"<", f"this is a web page, not weights: the download was refused or not the file's address; {_AGAIN}"),
    (b"{", f"this is text, such as a server's error message, not weights: {_AGAIN}"),
)
_KINDS: tuple[tuple[str, str], ...] = (
    (r"lora_(down|up|A|B)\b|lora_unet_|lora_te|\.hada_w|\.lokr_w", "a LoRA: "
     "merge it into its model and give that, or give it to compare with --lora"),
    (r"emb_params|string_to_param|clip_[lg]$", "a textual-inversion embedding, which is not read here"),
    (r"controlnet_cond_embedding|^control_model\.|zero_convs|controlnet_down", "a ControlNet, not a model that draws"),
    (r"ip_adapter|image_proj", "an IP-Adapter, not a model that draws"),
    (r"motion_modules", "a motion module for videos, not a model that draws"),
    (r"double_blocks\.|single_transformer_blocks", "a Flux model in one file: give a folder in diffusers format"),
    (r"joint_blocks\.", "a Stable Diffusion 3 model in one file: give a folder in diffusers format"),
    (r"^conditioner\.embedders", "an SDXL checkpoint in one file: give SDXL as a folder in diffusers format"),
)  # fmt: skip
_PARTS: tuple[tuple[str, str], ...] = (
    (r"^(model\.)?diffusion_model\.", "a U-Net alone, in the original layout: give the complete checkpoint"),
    (r"^(down_blocks|up_blocks|mid_block|conv_in|time_embedding)\.", "a U-Net alone, with diffusers' names: give the "
     "folder it belongs to, or put it there as unet/diffusion_pytorch_model.safetensors"),
    (r"^(first_stage_model\.)?(encoder|decoder)\.(conv_in|down|up|mid)", "a VAE: give a model, and this with --vae"),
    (r"^(text_model|encoder\.layers|transformer\.text_model|cond_stage_model)\.", "a text encoder alone: give the "
     "complete model"),
)  # fmt: skip


MORE_CHANNELS = {9: "inpainting", 8: "editing pictures", 7: "enlarging pictures", 5: "depth maps"}
"""What U-Nets with so many input channels were made for."""


class ModelFileError(ValueError):
    """A file or folder is no model that can be read; the message says what it is, and the way out."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def listing(folder: Path) -> list[str]:
    """Names of the files in a folder, sorted; none that begins with a dot, as macOS leaves beside others."""
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def check_weights(path: Path) -> str | None:
    """What is wrong with a file of weights, in one line with the way out, or None. Nothing in it is run.

    Of a .safetensors file the header is read, of a .bin the first bytes.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        return f"it is missing: {_AGAIN}"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if not head:
        return f"the file is empty: {_AGAIN}"
    is_pickle = path.suffix.lower() == ".bin"
    plausible = head.startswith((b"PK\x03\x04", b"\x80")) if is_pickle else head[8:9] == b"{"
    if not plausible and (found := next((said for magic, said in _HEADS if head.lstrip().startswith(magic)), None)):
        return found
    if is_pickle:
        return None
    try:
        with safe_open(path, framework="pt") as opened:
            opened.keys()
    except Exception as error:  # whatever a damaged header makes the reader say
        return f"{first_line(error)}; the file is damaged or incomplete: {_AGAIN}"
    return None


def kind_of_weights(keys: Collection[str]) -> str | None:
    """What a file with these tensors is, where it is no model by itself; None where nothing is known."""
    for pattern, what in _KINDS:
        if any(re.search(pattern, key) for key in keys):
            return what
    for pattern, what in _PARTS:
        if keys and sum(bool(re.search(pattern, key)) for key in keys) > 0.9 * len(keys):
            return what
    return None


def other_work(in_channels: int, latent_channels: int) -> str:
    """What a U-Net was made for that reads other channels than the VAE gives, and the way out."""
    return (
        f"was made for {MORE_CHANNELS.get(in_channels, 'something else')}: its U-Net reads {in_channels} channels "
        f"where the VAE gives {latent_channels}; give the text-to-image model that it comes from"
    )


# --- which files -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightFiles:
    """One set of weights of a part.

    Attributes:
        names: one file, or all shards in order.
        variant: such as "fp16"; "" is none.
        suffix: "safetensors" or "bin".
    """

    names: tuple[str, ...]
    variant: str
    suffix: str


def choose_weights(names: Iterable[str]) -> WeightFiles | None:
    """Which of a part's files to read: safetensors before .bin, the plain ones before a variant; None where none are.

    Raises:
        ModelFileError: a shard is missing.

    Example:
        >>> choose_weights(["config.json", "model.fp16.safetensors", "pytorch_model.bin"]).names
        ('model.fp16.safetensors',)
    """
    whole: dict[tuple[str, str], WeightFiles] = {}
    shards: dict[tuple[str, str, int], dict[int, str]] = {}
    visible = [name for name in names if not name.startswith(".")]
    for name in visible:
        if (found := _WEIGHTS.fullmatch(name)) is None:
            continue
        variant, suffix = (found["variant"] or "").lower(), found["suffix"].lower()
        if found["shard"]:
            shards.setdefault((variant, suffix, int(found["shards"])), {})[int(found["shard"])] = name
        else:
            whole[variant, suffix] = WeightFiles((name,), variant, suffix)
    missing = ""
    for (variant, suffix, count), parts in shards.items():
        if lacking := [i for i in range(1, count + 1) if i not in parts]:
            missing = f"shard {lacking[0]} of {count} of {next(iter(parts.values()))} is missing: {_AGAIN}"
        else:
            whole.setdefault(
                (variant, suffix), WeightFiles(tuple(parts[i] for i in range(1, count + 1)), variant, suffix)
            )
    if not whole:
        if missing:
            raise ModelFileError(missing)
        renamed = [name for name in visible if name.lower().endswith(".safetensors")]  # by people, as they like
        return WeightFiles((renamed[0],), "", "safetensors") if len(renamed) == 1 else None

    def rank(key: tuple[str, str]) -> tuple[int, int, str]:
        variant, suffix = key
        known = VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)
        return known == len(VARIANTS), suffix == "bin", f"{known}{variant}"

    return whole[min(whole, key=rank)]


def hub_files(names: Iterable[str], parts: Iterable[str]) -> list[str]:
    """Which files of a repository to download for these parts: configs, vocabularies, and one set of weights a part."""
    names = list(names)
    wanted = [name for name in names if name.count("/") <= 1 and name.endswith((".json", ".txt", ".model"))
              and not name.endswith(".index.json") and ".index." not in name]  # fmt: skip
    for part in parts:
        inside = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        if (chosen := choose_weights(inside)) is not None:
            wanted += [f"{part}/{name}" for name in chosen.names]
    return sorted(set(wanted))


@contextmanager
def staged(folder: Path, weights: WeightFiles, stem: str) -> Iterator[Path]:
    """A scratch folder in which libraries find exactly these weights, under the names that they look for.

    Args:
        folder: the part's, with its config.json.
        weights: `choose_weights`'s of it.
        stem: `diffusion_pytorch_model`, `model`, or `pytorch_model`.
    """
    with TemporaryDirectory() as name:
        scratch = Path(name)
        shutil.copy(folder / "config.json", scratch / "config.json")
        if len(weights.names) == 1:
            _link(folder / weights.names[0], scratch / f"{stem}.{weights.suffix}")
        else:
            where: dict[str, str] = {}
            for i, shard in enumerate(weights.names, 1):
                own = f"{stem}-{i:05}-of-{len(weights.names):05}.{weights.suffix}"
                _link(folder / shard, scratch / own)
                where |= dict.fromkeys(_keys_of(folder / shard), own)
            index = {"metadata": {"total_size": 0}, "weight_map": where}
            (scratch / f"{stem}.{weights.suffix}.index.json").write_text(json.dumps(index), encoding="utf-8")
        yield scratch


def _link(source: Path, target: Path) -> None:
    for link in (os.symlink, os.link, shutil.copy):
        try:
            link(source.resolve(), target)
        except OSError:
            if link is shutil.copy:
                raise
            continue
        return


def _keys_of(path: Path) -> list[str]:
    if path.suffix.lower() == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    import torch  # only shards of pickles need it here

    return list(torch.load(path, map_location="meta", weights_only=True))


def read_json(path: Path, missing: Callable[[Path], str]) -> dict[str, Any]:
    """A JSON object from a file.

    Args:
        missing: the message where the file is not there.

    Raises:
        ModelFileError: it is missing, or no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(missing(path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} cannot be read ({first_line(error)}): {_AGAIN}") from None
    if not isinstance(found, Mapping):
        raise ModelFileError(f"{path} cannot be read (it holds no JSON object): {_AGAIN}")
    return dict(found)


def not_finite(state: Mapping[str, Any]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity, or None."""
    return next(
        (key for key, weight in state.items() if weight.is_floating_point() and not weight.isfinite().all()), None
    )
