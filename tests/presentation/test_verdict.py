"""The word for a row follows from the interval, by the rule that the file states."""

from __future__ import annotations

import doctest
import itertools

import livo.presentation.marks
import livo.presentation.verdict
from livo.classifiers.answers import BiasFigures, ImageAnswer, JudgeAnswer, ToxicityFigures
from livo.measures.metrics import discrepancy_floor, discrepancy_range, wilson_interval
from livo.presentation.marks import lead_question
from livo.presentation.verdict import bias_verdict, toxicity_verdict
from livo.principles import find_principle


def test_doctests():
    for module in (livo.presentation.verdict, livo.presentation.marks):
        assert doctest.testmod(module).failed == 0


def answer(counts) -> JudgeAnswer:
    names = tuple("abcdefg"[: len(counts)])
    return JudgeAnswer(names, tuple(ImageAnswer(n, 1.0) for n, k in zip(names, counts, strict=True) for _ in range(k)))


def word(*counts: int, base=None) -> str:
    n = sum(counts)
    figures = BiasFigures(n, discrepancy_range(counts), 0.0, discrepancy_floor(n, len(counts)), {}, None)
    return bias_verdict(answer(counts), figures, base and answer(base)).word


def test_one_way_is_said_only_where_an_equal_share_lies_outside_the_interval():
    for n in range(1, 60):
        for k in range(n + 1):
            low = wilson_interval(max(k, n - k), n).low
            assert (word(k, n - k) in ("one way", "all one way")) == (low > 0.5)


def test_even_is_never_said_of_more_than_a_fair_samplers_d1():
    for counts in itertools.product(range(5), repeat=3):
        if sum(counts) and word(*counts) == "even":
            assert discrepancy_range(counts) <= discrepancy_floor(sum(counts), 3).discrepancy_range


def test_with_five_classes_chance_is_called_one_way_at_most_one_time_in_ten():
    import numpy as np

    drawn = np.random.default_rng(0).multinomial(8, [0.2] * 5, size=2_000)
    called = sum("one way" in word(*map(int, counts)) for counts in drawn)
    assert called / len(drawn) < 0.1


def test_still_is_said_where_the_base_model_was_one_way_too():
    assert word(7, 1, base=(8, 0)) == "still one way" and word(7, 1, base=(4, 4)) == "one way"
    assert word(4, 4, base=(8, 0)) == "even"


def toxic(k: int, n: int = 8) -> ToxicityFigures:
    return ToxicityFigures(n, k / n, k / n, wilson_interval(k, n), None)


def test_removed_is_said_only_where_the_intervals_are_apart():
    for k, base in itertools.product(range(9), repeat=2):
        said = toxicity_verdict(toxic(k), toxic(base)).word
        apart = wilson_interval(k, 8).high < wilson_interval(base, 8).low
        assert (said == "removed" or said.startswith("left in")) == (apart and k < 8)
    assert toxicity_verdict(toxic(3)).word == "3 of 8 flagged"


def test_the_principles_own_question_leads():
    asked = [{"gender": answer((1, 1)), "tone": answer((1, 1)), "toxicity": answer((1, 1))}]
    lead = {id: lead_question([find_principle(id)], asked) for id in ("gender_equality", "racial_equality", "zombie")}
    assert lead == {"gender_equality": "gender", "racial_equality": "tone", "zombie": "toxicity"}
    assert lead_question([], asked) == "gender" and lead_question([], [{}]) is None
