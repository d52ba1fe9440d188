"""The colour of cheeks: where it is told, and how often it is not."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from skimage import color, data

import livo.classifiers.colour as colour
from livo.classifiers.choice import load_judges
from livo.classifiers.colour import BETWEEN, BURNT, CHEEKS, CLASSES, DARK, SCALE, SMALL, TINTED, cheek_colour, to_lab
from livo.classifiers.faces import NO_FACE, SEVERAL_FACES, Face, FacesJudge, load_faces
from livo.classifiers.panel import Verdicts, describe, measure, question_of
from livo.compare.record import MethodRecord
from livo.principles import ASSETS, find_principle
from livo.ui.details import details_html
from livo.ui.readout import View

POINTS = ((20.0, 20.0), (60.0, 20.0), (40.0, 40.0), (25.0, 60.0), (55.0, 60.0))
MONK = [tuple(bytes.fromhex(one)) for one in SCALE]


def face(left, right=None, background=(200, 200, 200)) -> np.ndarray:
    """(80, 80, 3) uint8: two cheeks before a background."""
    pixels = np.full((80, 80, 3), background, dtype=np.uint8)
    pixels[30:50, 10:38], pixels[30:50, 42:70] = left, left if right is None else right
    return pixels


def tinted(rgb, light) -> tuple[int, ...]:
    return tuple(round(a * b) for a, b in zip(rgb, light, strict=True))


def test_doctests():
    assert doctest.testmod(colour).failed == 0


def test_lab_is_the_librarys():
    rgb = np.random.default_rng(0).integers(0, 256, (7, 50, 3), dtype=np.uint8)
    assert np.abs(to_lab(rgb) - color.rgb2lab(rgb)).max() < 0.02
    assert len(SCALE) == len(CLASSES) == 10 and (np.diff(colour.MONK[2:, 0]) < 0).all(), "from light to dark"


@pytest.mark.parametrize("k", range(10))
def test_every_colour_of_the_scale_is_told_as_itself(k):
    probs, why = cheek_colour(face(MONK[k]), POINTS)
    assert why == "" and probs.argmax() == k and probs[k] >= colour.MIN_ANSWER and probs.sum() == pytest.approx(1)


@pytest.mark.parametrize(("pixels", "reason"), [
    (face(MONK[5]) // 8, DARK),
    (face((255, 240, 220)), BURNT),
    (face((90, 40, 2)), BURNT),
    (face(MONK[4], MONK[6]), CHEEKS),
    (face(tinted(MONK[4], (0.5, 0.6, 1))), TINTED),
    (face(tinted(MONK[6], (0.6, 0.7, 1))), TINTED),
    (face(tinted(MONK[4], (0.7, 1, 0.7))), TINTED),
    (face(tinted(MONK[3], (1, 0.6, 0.6))), TINTED),
    (face(np.add(MONK[6], MONK[7]) // 2), BETWEEN),
])  # fmt: skip
def test_when_it_cannot_tell(pixels, reason):
    probs, why = cheek_colour(pixels, POINTS)
    assert why == reason and probs.max() < colour.MIN_ANSWER


def test_dark_skin_in_good_light_is_no_dark_picture():
    assert (
        cheek_colour(face(MONK[9]), POINTS)[1] == ""
        and cheek_colour(face(MONK[9], None, (60, 60, 60)), POINTS)[1] == DARK
    )


def test_a_small_face_and_one_at_the_edge():
    assert cheek_colour(face(MONK[5]), [(x / 4, y / 4) for x, y in POINTS])[1] == SMALL
    assert cheek_colour(face(MONK[5]), [(x - 24, y) for x, y in POINTS])[1] == SMALL


def test_it_is_asked_for_and_off_otherwise():
    assert load_judges("faces", ASSETS / "miniature").questions == ("gender",)
    judge = load_judges("faces:colour", ASSETS / "miniature")
    assert judge.questions == ("gender", "colour") and judge.classes("colour") == CLASSES
    with pytest.raises(KeyError, match=r"it answers: gender.$"):
        load_faces()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "colour")
    astronaut = torch.from_numpy(data.astronaut()).permute(2, 0, 1)
    lights = torch.stack([(astronaut * light).byte() for light in (0.85, 0.5, 0.15)])
    answer = judge(lights, "colour")
    assert answer.probs.shape == (3, 10) and answer.threshold == colour.MIN_ANSWER
    told = [None if label is None else CLASSES[label] for label in answer.labels]
    assert told == ["Monk 5", "Monk 7", None], "one face, three lights"
    assert judge(lights, "gender").labels == load_faces()(lights, "gender").labels, "gender is as without"


def test_it_is_no_figure_of_fairness_and_answers_for_no_principle():
    faces = {0: [], 1: [Face((0, 0, 79, 79), 0.99, POINTS)], 2: [Face((0, 0, 79, 79), 0.99, POINTS)] * 2}
    judge = FacesJudge(
        lambda pixels: faces[pixels[0, 0, 0]], lambda pixels, face: pixels[:32, :32], lambda batch: np.array([[1, 0]]),
        measures_colour=True,
    )  # fmt: skip
    pictures = []
    for count in (0, 1, 1, 2):
        pictures.append(face(MONK[6]))
        pictures[-1][0, 0, 0] = count
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    answer = judge(images, "colour")
    assert answer.labels == [None, 6, 6, None] and judge.why_not(images, "colour") == {NO_FACE: 1, SEVERAL_FACES: 1}
    verdicts = Verdicts({"colour": answer, "gender": judge(images, "gender")})
    assert set(measure(verdicts.classification)) == {"gender"}
    assert question_of(judge, find_principle("racial_equality")) is None
    shown = details_html(View((0, 1, 2, 3), None), MethodRecord(True, "", {"colour": describe(answer, "colour")}))
    assert "Colour of the cheeks under this light, nearest to" in shown and "cannot tell: 2 of 4" in shown
    assert "Monk 7" in shown and "Monk 6" not in shown and "D1" not in shown
