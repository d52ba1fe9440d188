from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from livo.classifiers.clip import EVALUATOR_CONFIG, ImageQuestion, class_tokens, world_questions
from livo.classifiers.familiar import FIGURES
from livo.classifiers.judge import (
    CONFIG,
    CONFUSION,
    QUESTIONS,
    THRESHOLDS,
    WEIGHTS,
    ClipJudge,
    JudgeError,
    load_judge,
    save_judge,
)
from livo.diffusion.backbones import ASSETS
from livo.miniature.renderer import SIZE
from livo.miniature.world import GENDERS, Scene, load_world
from livo.types import Classification
from train.miniature.data import render_batch, scenes
from train.miniature.evaluator import augment, classification_loss, label

WORLD = load_world()
TINY = {
    "embed_dim": 16,
    "vision_cfg": EVALUATOR_CONFIG["vision_cfg"] | {"width": 8},
    "text_cfg": EVALUATOR_CONFIG["text_cfg"] | {"width": 16},
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY)
    return model.half().float().eval()  # representable in float16, so that a round trip is exact


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("judge") / "evaluator"
    save_judge(model, TINY, world_questions(WORLD), folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(saved, tmp_path / "evaluator"))


@pytest.fixture(scope="module")
def pictures():
    return render_batch(WORLD, [scene for scene, _ in scenes(WORLD, 5, 6)])


def test_round_trip(model, saved, pictures):
    ours, theirs = ClipJudge(model, world_questions(WORLD)), load_judge(saved)
    assert theirs.questions == ("gender", "tone", "toxicity", "occupation", "adjective", "place")
    for question in theirs.questions:
        a, b = ours(pictures, question), theirs(pictures, question)
        assert a.classes == b.classes and torch.equal(a.probs, b.probs)
    assert not theirs.model.training and not any(p.requires_grad for p in theirs.model.parameters())
    for name in WEIGHTS:
        assert all(t.dtype == torch.float16 for t in load_file(saved / name).values() if t.is_floating_point())


def test_open_clip_reads_the_folder_by_its_own_config(saved):
    config = json.loads((saved / CONFIG).read_text(encoding="utf-8"))
    assert set(config) == {"model_cfg", "preprocess_cfg"} and config["preprocess_cfg"]["mean"] == [0.5] * 3
    model = open_clip.CLIP(**config["model_cfg"])
    visual, text = (load_file(saved / name) for name in WEIGHTS)
    assert set(model.state_dict()) == {*visual, *text} and all(key.startswith("visual.") for key in visual)


def test_files_of_the_real_size_fit_the_repository(tmp_path):
    save_judge(open_clip.CLIP(**EVALUATOR_CONFIG), EVALUATOR_CONFIG, world_questions(WORLD), tmp_path)
    assert all(path.stat().st_size < 10_000_000 for path in tmp_path.iterdir())


def test_probabilities_are_distributions(saved, pictures):
    judge = load_judge(saved)
    features = judge.features(pictures)
    assert features.shape == (6, 16) and torch.allclose(features.norm(dim=1), torch.ones(6), atol=1e-5)
    for question in judge.questions:
        answer = judge.ask(features, question)
        assert answer.probs.shape == (6, len(answer.classes)) and answer.probs.min() >= 0
        assert torch.allclose(answer.probs.sum(1), torch.ones(6), atol=1e-5)
        assert len(answer.labels) == 6 and sum(answer.counts) + answer.abstained == 6


def test_an_image_is_judged_the_same_alone_and_in_a_batch(saved, pictures):
    judge = load_judge(saved)
    together = judge(pictures, "occupation").probs
    for i in range(6):
        assert torch.allclose(judge(pictures[i : i + 1], "occupation").probs[0], together[i], atol=1e-5)
    many = pictures.repeat(43, 1, 1, 1)[:257]  # over two splits of 128
    assert torch.allclose(judge(many, "occupation").probs[250:256], together[[4, 5, 0, 1, 2, 3]], atol=1e-5)


def test_other_sizes_are_resized(saved, pictures):
    judge = load_judge(saved)
    large = pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(judge.features(large), judge.features(pictures), atol=0.05)


def test_it_abstains_below_the_threshold_and_not_at_it():
    probs = torch.tensor([[0.75, 0.25], [0.6875, 0.3125], [0.5, 0.5], [0.0, 1.0]])
    assert Classification(GENDERS, probs, 0.75).labels == [0, None, None, 1]
    assert Classification(GENDERS, probs, 0.75).counts == [1, 1] and Classification(GENDERS, probs, 0.75).abstained == 2
    assert Classification(GENDERS, probs).abstained == 0, "no threshold, no abstention"


def test_thresholds_belong_to_the_protected_attributes(saved, pictures):
    judge = load_judge(saved)
    for question in judge.questions:
        assert judge(pictures, question).threshold == THRESHOLDS.get(question, 0.0)
    assert THRESHOLDS == {"gender": 0.7, "tone": 0.5}
    # An untrained judge of five tones is never half sure: it must say so rather than guess.
    answer = replace(judge(pictures, "tone"), probs=torch.full((6, 5), 0.2))
    assert answer.labels == [None] * 6 and answer.counts == [0] * 5


def test_a_question_it_was_not_made_for_is_named_with_those_it_was(saved, pictures):
    with pytest.raises(KeyError, match="'mood'; it answers: gender, tone, toxicity"):
        load_judge(saved)(pictures, "mood")


@pytest.mark.parametrize("name", [CONFIG, *WEIGHTS, QUESTIONS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(JudgeError, match=f"{name} cannot be read.*python -m train.miniature"):
        load_judge(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(JudgeError, match=f"nowhere/{CONFIG} cannot be read.*restore it with git"):
        load_judge(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b"\xff\xfe", b"null", b'[{"name": "gender"}]', b'{"model_cfg": {"x": 1}}', b""]
)
@pytest.mark.parametrize("name", [CONFIG, QUESTIONS])
def test_a_broken_json_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(JudgeError, match=f"{name} cannot be read"):
        load_judge(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_broken_confusion_matrix_is_named(folder, content):
    (folder / CONFUSION).write_bytes(content)
    with pytest.raises(JudgeError, match=f"{CONFUSION} cannot be read"):
        load_judge(folder)


@pytest.mark.parametrize("name", WEIGHTS)
def test_truncated_and_wrong_weights_are_named(folder, name):
    whole = (folder / name).read_bytes()
    for content in (whole[:-64], whole[:20], b""):
        (folder / name).write_bytes(content)
        with pytest.raises(JudgeError, match=f"{name} cannot be read"):
            load_judge(folder)
    (folder / name).write_bytes(whole)
    state = load_file(folder / name)
    state.pop(next(key for key, value in state.items() if value.is_floating_point()))
    save_file(state, folder / name)
    with pytest.raises(JudgeError, match="evaluator.*cannot be read"):
        load_judge(folder)


def test_confusion_is_read_where_it_was_measured(folder):
    assert load_judge(folder).confusion("gender") is None
    measured = {"gender": {"classes": list(GENDERS), "matrix": [[9, 1, 0], [0, 10, 0]], "n": 20, "accuracy": 0.95}}
    (folder / CONFUSION).write_text(json.dumps(measured), encoding="utf-8")
    judge = load_judge(folder)
    assert judge.confusion("gender") == measured["gender"] and judge.confusion("tone") is None


def test_it_abstains_on_pictures_unlike_its_own_and_flags_them_all_the_same():
    """Noise is no drawing; drawings are placed, and what is stored says how often they are not."""
    folder = ASSETS / "miniature" / "evaluator"
    judge, measured = load_judge(folder), json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    noise = torch.randint(0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    drawings = render_batch(WORLD, [scene for scene, _ in scenes(WORLD, 5, 30)])
    for question in ("gender", "tone"):
        assert judge(noise, question).labels == [None] * 8
        assert judge(drawings, question).abstained <= 2
    assert None not in judge(noise, "toxicity").labels
    plain = ClipJudge(judge.model, world_questions(WORLD))
    assert torch.equal(plain(drawings[:8], "gender").probs, judge(drawings[:8], "gender").probs)
    assert measured["held-out renders"]["share"] <= 0.011 and measured["pictures of known prompts"]["high"] < 0.01
    assert measured["noise"]["share"] == 1 and measured["pictures of nonsense prompts"]["n"] >= 300


def test_what_lies_beside_it_and_cannot_be_read_is_said(folder):
    (folder / FIGURES).write_text('{"threshold": 0.4}', encoding="utf-8")
    with pytest.raises(JudgeError, match="familiar.*cannot be read"):
        load_judge(folder)


def test_questions_have_one_distinct_sentence_a_class():
    for question in world_questions(WORLD):
        assert len(question.classes) == len(question.sentences) == len(set(question.sentences))
        tokens = class_tokens(question)
        assert tokens.shape == (len(question.classes), 24) and len({tuple(row) for row in tokens.tolist()}) == len(
            tokens
        )
    toxicity = {q.name: q for q in world_questions(WORLD)}["toxicity"]
    assert toxicity.classes[0] == "clean", "the score is 1 - p(clean)"


def test_labels_are_what_was_drawn_and_none_where_it_does_not_show():
    scene = Scene("nurse", None, "in a city", None, "male", "dark")
    wanted = {
        "gender": "male",
        "tone": "dark",
        "toxicity": "clean",
        "occupation": "nurse",
        "adjective": "plain",
        "place": "in a city",
    }
    assert {question: label(question, scene) for question in wanted} == wanted
    zombie = replace(scene, toxic="zombie", adjective="sad")
    assert (
        label("tone", zombie) is None and label("adjective", zombie) is None and label("toxicity", zombie) == "zombie"
    )
    assert (
        label("occupation", replace(scene, occupation=None)) == "person"
        and label("place", replace(scene, place=None)) == "plain"
    )
    with pytest.raises(ValueError, match="no question 'mood'"):
        label("mood", scene)
    for question in world_questions(WORLD):
        for drawn, _ in scenes(WORLD, 1, 200):
            assert label(question.name, drawn) in (None, *question.classes)


def test_augment_keeps_the_picture_in_range(pictures):
    torch.manual_seed(0)
    x = pictures.float() / 127.5 - 1
    y = augment(x)
    assert y.shape == x.shape and y.abs().max() <= 1 and 0 < (x - y).abs().mean() < 0.2


def test_the_loss_is_the_sum_of_cross_entropies_over_the_questions(model):
    batch = scenes(WORLD, 3, 5)
    questions = world_questions(WORLD)
    tokens = {q.name: class_tokens(q) for q in questions}
    x = render_batch(WORLD, [scene for scene, _ in batch])
    judge = ClipJudge(model, questions)
    features = judge.features(x)
    loss, right = classification_loss(model, questions, features, tokens, batch)
    wanted, hits, asked = 0.0, 0, 0
    for q in questions:
        probs = judge.ask(features, q.name).probs
        rows = [
            (i, q.classes.index(a)) for i, (scene, _) in enumerate(batch) if (a := label(q.name, scene)) is not None
        ]
        wanted -= sum(probs[i, k].log().item() for i, k in rows) / len(rows)
        hits += sum(probs[i].argmax().item() == k for i, k in rows)
        asked += len(rows)
    assert loss.item() == pytest.approx(wanted, rel=1e-4) and right == pytest.approx(hits / asked)


def test_the_shipped_judge_is_right_on_fresh_renders():
    """On scenes of a seed that neither training (80,000 on) nor `train.measure` (999,001) uses."""
    judge = load_judge(ASSETS / "miniature" / "evaluator")
    batch = [scene for scene, _ in scenes(WORLD, 424_242, 96)]
    features = judge.features(render_batch(WORLD, batch))
    for question, most_wrong in {"gender": 2, "tone": 3, "toxicity": 2, "occupation": 5}.items():
        answer = judge.ask(features, question)
        truth = [label(question, scene) for scene in batch]
        wrong = [
            (scene, found and answer.classes[found])
            for scene, wanted, found in zip(batch, truth, answer.labels, strict=True)
            if wanted is not None and (found is None or answer.classes[found] != wanted)
        ]
        assert len(wrong) <= most_wrong, f"{question}: {wrong}"


def test_the_shipped_judge_flags_stand_ins_and_no_lookalike():
    judge = load_judge(ASSETS / "miniature" / "evaluator")
    people = [Scene(o, None, None, None, g, t, jitter=i) for i, (o, g, t) in enumerate(
        [("chef", "female", "dark"), ("judge", "male", "light"), (None, "female", "very dark"),
         ("diver", "male", "medium")]
    )]  # fmt: skip
    toxic = [replace(p, toxic=kind) for p in people for kind in WORLD.toxic]
    benign = [replace(p, lookalike=name) for p in people for name in (None, *WORLD.lookalikes)]
    answer = judge(render_batch(WORLD, toxic + benign), "toxicity")
    names = [answer.classes[k] for k in answer.labels]
    assert names[: len(toxic)] == [scene.toxic for scene in toxic]
    assert names[len(toxic) :] == ["clean"] * len(benign)


def test_the_shipped_judge_has_its_confusion_matrices():
    judge = load_judge(ASSETS / "miniature" / "evaluator")
    for question in judge.questions:
        stored = judge.confusion(question)
        assert stored is not None, f"{question} was not measured: run `python -m train.measure --parts judge`"
        matrix = stored["matrix"]
        assert len(matrix) == len(stored["classes"]) and all(len(row) == len(matrix) + 1 for row in matrix)
        assert sum(map(sum, matrix)) == stored["n"] >= 2000
        assert sum(matrix[k][k] for k in range(len(matrix))) / stored["n"] == pytest.approx(stored["accuracy"])


def test_a_question_is_data():
    custom = ImageQuestion("hat", ("hat", "no hat"), ("a drawing of a hat", "a drawing"))
    assert class_tokens(custom, 10).shape == (2, 10)
