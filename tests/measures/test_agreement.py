"""Agreement of two who label the same images, against values by hand and laws."""

from __future__ import annotations

import numpy as np
import pytest

from livo.measures.agreement import agreement
from livo.study import analysis


def by_hand(first: list[str], second: list[str]) -> float:
    """Cohen's kappa from its definition, label by label."""
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum(first.count(c) * second.count(c) for c in set(first) | set(second)) / n**2
    return (observed - chance) / (1 - chance)


def test_kappa_is_its_definition_and_lies_in_its_interval():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one = rng.choice(list("abc"), 60)
        two = np.where(rng.random(60) < 0.7, one, rng.choice(list("abc"), 60))
        found = agreement(one.tolist(), two.tolist())
        assert found.kappa.value == pytest.approx(by_hand(one.tolist(), two.tolist()))
        assert found.kappa.low <= found.kappa.value <= found.kappa.high <= 1
        assert found.share.low <= found.share.value <= found.share.high and found.share.value == np.mean(one == two)


def test_a_published_value():
    first, second = ["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert agreement(first, second).kappa.value == pytest.approx((0.7 - 0.5) / (1 - 0.5))


def test_independent_labels_agree_by_chance_alone_and_equal_ones_wholly():
    rng = np.random.default_rng(1)
    one, two = (rng.choice(list("ab"), 4000).tolist() for _ in range(2))
    assert agreement(one, two).kappa.low < 0 < agreement(one, two).kappa.high
    equal = agreement(one, one)
    assert (equal.kappa.value, equal.kappa.low, equal.kappa.high) == (1, 1, 1) and equal.share.value == 1


@pytest.mark.parametrize(("first", "second"), [("aaab", "aaaa"), ("aaaa", "aaab"), ("aaaa", "aaaa")])
def test_one_who_says_the_same_of_everything_gives_no_kappa_anywhere(first, second):
    """There were two kappas, of a study and of the page: one said 0.0 here, and the other that it is not defined."""
    found = agreement(first, second)
    assert found.kappa is None and found.to_json()["kappa_interval"] is None
    assert analysis.agreement_of is agreement, "a study has no kappa of its own"


def test_no_image_and_unequal_numbers_are_errors():
    with pytest.raises(ValueError, match="at least one"):
        agreement([], [])
    with pytest.raises(ValueError, match="2 and 1 labels"):
        agreement(["a", "b"], ["a"])


def test_images_of_one_prompt_are_read_alike_so_intervals_are_for_new_prompts():
    """Of a judge that reads some prompts wrongly, images taken one by one give too narrow an interval."""
    rng, held = np.random.default_rng(2), {"clusters": [], "images": []}
    for _ in range(200):
        right = np.repeat(rng.beta(9, 1, 10), 20)
        one = rng.choice(list("ab"), 200)
        two = np.where(rng.random(200) < right, one, np.where(one == "a", "b", "a"))
        for kind, clusters in (("clusters", np.repeat(np.arange(10), 20).tolist()), ("images", None)):
            found = agreement(one.tolist(), two.tolist(), clusters=clusters)
            held[kind].append((found.share.low < 0.9 < found.share.high, found.kappa.low < 0.8 < found.kappa.high))
    assert np.mean(held["clusters"], axis=0).min() > 0.92 and np.mean(held["images"], axis=0).max() < 0.85


def test_few_prompts_and_prompts_that_are_all_alike_give_no_interval():
    few = agreement("aabb", "aaba", clusters="wxyz")
    assert few.share.reason == few.kappa.reason == "4 prompts: an interval needs 5"
    alike = agreement("abababababab", "abababababab", clusters="uuvvwwxxyyzz")
    assert (alike.share.value, alike.share.has_interval, alike.kappa.has_interval) == (1, False, False)
