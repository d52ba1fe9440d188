from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace

import pytest
import torch
from plans import state_hash
from safetensors import safe_open

import train.uce as trainer
from baselines import _uce_edit as edit
from livo.methods.edited_weights import projection_weights
from livo.miniature.world import load_world
from livo.principles import find_principle
from livo.types import Classification, InputError, Principle
from train.edits.uce_debias import FORMS, DebiasConfig, balanced, debias, gaps_to_even, log_evidence
from train.uce import main, make, make_task, toxic_words, world_concepts

WORLD = load_world()
CONCEPTS = ["doctor", "nurse", "judge", "ceo"]
WORDS = ["male", "female"]
SMALL = DebiasConfig(concepts=2, rounds=4)


def counts_of(*counts) -> torch.Tensor:
    return torch.tensor(counts)


class Fixed:
    """Counts from a fixed sequence by round, whatever is asked; records what was asked."""

    def __init__(self, *rounds: dict[str, tuple[int, ...]]) -> None:
        self.rounds, self.asked = list(rounds), []

    def __call__(self, weights, asked):
        found = self.rounds[len(self.asked)]
        self.asked.append({text: tuple(seeds) for text, seeds in asked.items()})
        return {text: counts_of(*found[text]) for text in asked}


def answering(task_of, strength: float = 4.0):
    """A model whose share of the first class follows the edit: the more a text moved towards it, the more of it."""

    def sample(weights, asked):
        task, found = task_of(), {}
        for text, seeds in asked.items():
            name = next(iter(weights))
            edited = task.texts[text]
            moved = (weights[name] - task.weights[name]) @ edited.tokens.mean(0)
            axis = task.weights[name] @ (edited.attributes[0] - edited.attributes[1]).mean(0)
            bias = (2.0, -2.0, 0.0)[list(task.texts).index(text) % 3]
            share = 1 / (1 + math.exp(-bias - strength * (moved @ axis / axis.square().sum()).item()))
            first = sum(random.Random(seed).random() < share for seed in seeds)
            found[text] = counts_of(first, len(seeds) - first)
        return found

    return sample


def task_with(engine, form, sample, config=SMALL, concepts=CONCEPTS):
    return make_task(engine, form, concepts, WORDS, sample, config)


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# --- the fixed ratios of U3 and U4 ------------------------------------------------------------------------------------


def test_2023_compounds_skips_what_is_even_and_preserves_it(engine64, tmp_path):
    task = task_with(engine64, "2023", None)
    a, b = task.texts
    fixed = Fixed({a: (9, 1), b: (2, 8)}, {a: (5, 5), b: (3, 7)}, {b: (4, 6)}, {b: (5, 5)})
    state = debias(replace(task, sample=fixed), "2023", tmp_path / "c.pt")
    assert [list(asked) for asked in fixed.asked] == [[a, b], [a, b], [b], [b]], "an even text is never drawn again"
    assert state["done"] and state["images"] == 20 + 20 + 10 + 10

    texts, weights = [task.texts[a], task.texts[b]], task.weights
    even = torch.cat([task.preserve, texts[0].text.embeds])
    weights = edit.debias_2023(weights, texts, [(-0.04, 0.04), (0.03, -0.03)], task.preserve)
    weights = edit.debias_2023(weights, texts, [(0, 0), (0.02, -0.02)], even)
    by_hand = edit.debias_2023(weights, texts, [(0, 0), (0.01, -0.01)], even)
    for name in by_hand:
        torch.testing.assert_close(state["weights"][name], by_hand[name], rtol=0, atol=1e-9)
    # The comparison can fail: a preserve set that does not grow, and edits that do not compound, are seen.
    fixed_set = edit.debias_2023(weights, texts, [(0, 0), (0.01, -0.01)], task.preserve)
    alone = edit.debias_2023(task.weights, texts, [(0, 0), (0.01, -0.01)], even)
    for other in (fixed_set, alone):
        assert max((state["weights"][n] - other[n]).abs().max().item() for n in other) > 1e-6


def test_2025_adds_raw_gaps_up_and_solves_from_the_original(engine64, tmp_path):
    task = task_with(engine64, "2025", None, replace(SMALL, rounds=5))
    a, b = task.texts
    rounds = [{a: (9, 1), b: (2, 8)}, {a: (5, 5), b: (3, 7)}, {a: (4, 6), b: (4, 6)}, {a: (5, 5), b: (5, 5)}]
    fixed = Fixed(*rounds)
    state = debias(replace(task, sample=fixed), "2025", tmp_path / "c.pt")
    assert state["done"] and state["images"] == 4 * 20 and all(list(asked) == [a, b] for asked in fixed.asked)
    assert state["coefficients"] == {a: pytest.approx([-0.3, 0.3]), b: pytest.approx([0.6, -0.6])}
    by_hand = edit.debias_from_original(task.weights, [task.texts[a], task.texts[b]], [(-0.3, 0.3), (0.6, -0.6)])
    last_only = edit.debias_from_original(task.weights, [task.texts[a], task.texts[b]], [(0.1, -0.1), (0.1, -0.1)])
    for name in by_hand:
        torch.testing.assert_close(state["weights"][name], by_hand[name], rtol=0, atol=1e-9)
        assert (state["weights"][name] - last_only[name]).abs().max() > 1e-3
    assert task.preserve is None and all(len(text.tokens) == 1 for text in task.texts.values())


def test_five_classes_settle_where_the_first_is_even_as_released(engine64, tmp_path):
    words = ["red", "green", "blue", "pink", "grey"]
    task = make_task(engine64, "2023", CONCEPTS, words, None, replace(SMALL, rounds=1))
    a, b = task.texts
    fixed = Fixed({a: (2, 6, 2, 0, 0), b: (1, 6, 2, 1, 0)})
    state = debias(replace(task, sample=fixed), "2023", tmp_path / "c.pt")
    assert state["settled"] == [a] and not state["done"]


def test_the_cap_on_rounds_stops_what_would_go_on(engine64, tmp_path):
    for form in FORMS:
        skewed = lambda weights, asked: {text: counts_of(len(seeds), 0) for text, seeds in asked.items()}  # noqa: E731
        state = debias(task_with(engine64, form, skewed, replace(SMALL, rounds=3)), form, tmp_path / f"{form}.pt")
        assert not state["done"] and state["round"] == 3 == len(state["history"])


# --- the sequential test ----------------------------------------------------------------------------------------------


def test_evidence_is_a_likelihood_ratio():
    """Over all outcomes of 6 images, the likelihoods under the mixture sum to 1: ratio times balanced likelihood."""
    for k in (2, 3):
        total = sum(
            math.exp(log_evidence([draw.count(c) for c in range(k)], 3.0)) / k**6
            for draw in itertools.product(range(k), repeat=6)
        )
        assert total == pytest.approx(1, abs=1e-12)
    assert log_evidence([0, 0], 3.0) == pytest.approx(0)
    assert log_evidence([7, 2, 0], 3.0) == pytest.approx(log_evidence([0, 7, 2], 3.0)), "no class is special"


@pytest.mark.parametrize(("k", "balanced_images", "skewed_images"), [(2, 28, 10), (5, 65, 12)])
def test_wrong_verdicts_are_as_rare_as_promised(k, balanced_images, skewed_images):
    rng = random.Random(0)

    def trial(weights) -> tuple[bool, int]:
        counts = [0] * k
        while (verdict := balanced(counts, 3.0, 0.1, 10_000)) is None:
            counts[rng.choices(range(k), weights)[0]] += 1
        return verdict, sum(counts)

    fair = [trial([1] * k) for _ in range(600)]
    assert sum(not verdict for verdict, _ in fair) / 600 < 0.1
    assert sum(n for _, n in fair) / 600 < balanced_images
    p = 3 / (3 + k - 1)
    off = [trial([p, *[(1 - p) / (k - 1)] * (k - 1)]) for _ in range(300)]
    off += [trial([p := (1 / 3) / (1 / 3 + k - 1), *[(1 - p) / (k - 1)] * (k - 1)]) for _ in range(300)]
    assert sum(verdict for verdict, _ in off) / 600 < 0.1
    hopeless = [trial([0.999, *[0.001 / (k - 1)] * (k - 1)]) for _ in range(100)]
    assert not any(verdict for verdict, _ in hopeless) and sum(n for _, n in hopeless) / 100 < skewed_images


def test_at_the_cap_the_likelier_side_wins():
    assert balanced([5, 3], 3.0, 0.1, 32) is None
    assert balanced([5, 3], 3.0, 0.1, 8) is True and balanced([7, 1], 3.0, 0.001, 8) is False


def test_gaps():
    assert gaps_to_even(counts_of(9, 1)) == pytest.approx([-0.4, 0.4])


def test_sequential_steps_shrink_where_the_gap_changes_sign_and_stop_where_it_is_balanced(engine64, tmp_path):
    config = replace(SMALL, batch=20, gain=2.0, rounds=6)
    task = task_with(engine64, "sequential", None, config)
    a, b = task.texts
    fixed = Fixed({a: (20, 0), b: (10, 10)}, {a: (2, 18)}, {a: (10, 10)}, {b: (10, 10)})
    state = debias(replace(task, sample=fixed), "sequential", tmp_path / "c.pt")
    assert [list(asked) for asked in fixed.asked] == [[a, b], [a], [a], [b]], "b is tested again under the last weights"
    assert state["done"] and state["images"] == 100
    wanted = 2.0 * 0.5 - 2.0 / 2 * 0.4
    assert state["coefficients"] == {a: pytest.approx([-wanted, wanted]), b: [0.0, 0.0]}
    by_hand = edit.debias_from_original(
        task.weights, [task.texts[a], task.texts[b]], [(-wanted, wanted), (0, 0)], task.preserve, 0.1
    )
    for name in by_hand:
        torch.testing.assert_close(state["weights"][name], by_hand[name], rtol=0, atol=1e-9)


def test_sequential_draws_new_noise_at_every_look_and_every_round(engine64, tmp_path):
    task = task_with(engine64, "sequential", None, replace(SMALL, concepts=1, rounds=2))
    (a,) = task.texts
    fixed = Fixed(*[{a: (4, 0)}] * 2, *[{a: (0, 4)}] * 2)
    debias(replace(task, sample=fixed), "sequential", tmp_path / "c.pt")
    seeds = [seed for asked in fixed.asked for seed in asked[a]]
    assert len(seeds) == len(set(seeds)) == 16


def test_sequential_reaches_balance_on_a_model_that_answers(engine64, tmp_path):
    holder = []
    config = replace(SMALL, concepts=3, rounds=30)
    holder.append(task_with(engine64, "sequential", answering(lambda: holder[0]), config))
    state = debias(holder[0], "sequential", tmp_path / "c.pt")
    assert state["done"] and any(any(row) for row in state["coefficients"].values())


# --- a run ------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("form", list(FORMS))
def test_a_killed_run_ends_as_an_uninterrupted_one(engine64, tmp_path, form):
    holder = []
    plain = answering(lambda: holder[0])
    holder.append(task_with(engine64, form, plain, replace(SMALL, concepts=3)))
    whole = debias(holder[0], form, tmp_path / "whole.pt")
    assert whole["round"] > 1
    left = 0

    def dies(weights, asked):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return plain(weights, asked)

    kills = 0
    for allowance in itertools.count(1):
        left = allowance
        try:
            resumed = debias(replace(holder[0], sample=dies), form, tmp_path / "killed.pt")
            break
        except Killed:
            kills += 1
    assert kills >= 1
    assert same(whole["weights"], resumed["weights"]) and whole["history"] == resumed["history"]
    assert whole["images"] == resumed["images"]
    assert same(debias(replace(holder[0], sample=None), form, tmp_path / "killed.pt")["weights"], whole["weights"])


def test_nothing_is_drawn_twice_by_a_finished_run(engine64, tmp_path):
    fixed = Fixed({"image of doctor": (5, 5)})
    task = task_with(engine64, "2023", fixed, replace(SMALL, concepts=1), concepts=["doctor"])
    for _ in range(2):
        assert debias(task, "2023", tmp_path / "c.pt")["images"] == 10
    assert len(fixed.asked) == 1


def test_what_is_edited_and_what_is_preserved(engine64):
    task = task_with(engine64, "2023", None, replace(SMALL, templates=2))
    edited = {text.removeprefix("image of ").removeprefix("photo of ") for text in task.texts}
    assert len(task.texts) == 4 and len(edited) == 2
    rest = [edit.read_text(engine64, c).embeds for c in CONCEPTS if c not in edited]
    assert {len(task.preserve)} == {2 * 77}
    assert all(any(torch.equal(task.preserve[i : i + 77], r) for r in rest) for i in (0, 77))
    assert list(task_with(engine64, "2025", None).texts) == [t.removeprefix("image of ") for t in list(task.texts)[::2]]
    assert task_with(engine64, "2023", None, replace(SMALL, concepts=9)).preserve is None


def test_a_concept_without_a_token_is_named(engine64):
    with pytest.raises(InputError, match="concept ' ' holds no word"):
        task_with(engine64, "2023", None, concepts=["doctor", " "])


def test_what_is_evaluated_is_edited_first_and_held_out_wordings_are_not_used():
    concepts = world_concepts(WORLD)
    adjectives = [f"{a} person" for a in WORLD.adjectives if a not in WORLD.held_out["adjectives"]]
    assert sorted(concepts) == sorted([*WORLD.occupations, *adjectives])
    assert concepts[: DebiasConfig().concepts] == WORLD.held_out["occupations"][:12]
    words = {kind: toxic_words(WORLD, kind) for kind in WORLD.toxic}
    assert words == {
        "nudity": ["naked", "nude", "without clothes"],
        "bloody": ["bloody", "covered in blood", "with blood on the face"],
        "zombie": ["zombie", "undead"],
    }
    assert not {"unclothed", "bloodied"} & {w for group in words.values() for w in group}


class FakeJudge:
    """Says the first class of bright images."""

    def __call__(self, images, question):
        first = (images.float().mean((1, 2, 3)) > 127).float()
        return Classification(("male", "female"), torch.stack([first, 1 - first], 1))


def test_a_principle_is_made_with_pictures_and_saved_with_its_cost(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "load_judge", lambda folder: FakeJudge())
    tiny = replace(engine.backbone.defaults, num_inference_steps=1, height=16, width=16)
    monkeypatch.setattr(trainer, "load_backbone", lambda name: replace(engine.backbone, defaults=tiny))
    file = tmp_path / "concepts.txt"
    file.write_text("doctor\nnurse\n\nceo\n", encoding="utf-8")
    arguments = ["--backbone", "tiny", "--principles", "gender_equality", "--concepts-file", str(file)]
    arguments += ["--threads", "1", "--concepts", "2", "--rounds", "1", "--images", "3"]
    arguments += ["--work", str(tmp_path / "work")]
    before = state_hash(engine.backbone.unet)
    for form in FORMS:
        main([*arguments, "--form", form, "--out", str(tmp_path / form)])
        with safe_open(tmp_path / form / "gender_equality.safetensors", "pt") as saved:
            keys, training = set(saved.keys()), json.loads(saved.metadata()["training"])
        assert keys == set(projection_weights(engine.backbone.unet))
        assert training["images"] >= (2 * 4 if form == "sequential" else 6) and training["seconds"] >= 0
        assert training["command"] == f"python -m train.uce --form {form} --concepts 2 --images 3 --rounds 1"
    assert len(list((tmp_path / "work").glob("*.pt"))) == 3
    assert state_hash(engine.backbone.unet) == before, "the shared U-Net is never written to"


def test_toxicity_is_erased_without_an_image(engine, tmp_path):
    principle = Principle("nudity", "nudity considered inappropriate", "toxicity", ("clean", "nudity"))
    for form in ("2023", "2025"):
        weights, cost = make(engine, principle, form, ["naked", "nude"], DebiasConfig(), tmp_path)
        assert cost["images"] == 0 and cost["seconds"] >= 0
        assert same(weights, FORMS[form].erase(engine, projection_weights(engine.backbone.unet), ["naked", "nude"]))


@pytest.mark.parametrize(("arguments", "message"), [
    (["--form", "sequential", "--principles", "nudity"], "guards against toxicity"),
    (["--principles", "kindness"], "no principle 'kindness'"),
    (["--backbone", "elsewhere"], "--concepts-file"),
    (["--principles", "nudity,gender_equality", "--concepts-file", "x.txt"], "one kind"),
])  # fmt: skip
def test_what_cannot_be_asked_is_said(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"images": 0}, {"odds": 1.0}, {"error": 0.5}, {"gain": 0.0}])
def test_settings_that_leave_nothing_to_do_are_refused(wrong):
    with pytest.raises(InputError):
        DebiasConfig(**wrong)


def test_the_principles_are_known_to_the_trainer():
    assert find_principle("gender_equality").classes == ("male", "female") == tuple(WORDS)
