"""The drawn world's tab: the planted table beside what was measured, and an edited copy of it."""

from __future__ import annotations

import itertools
import re

import pytest

from livo.evaluation.report import COMMITTED
from livo.evaluation.results import ATTRIBUTE
from livo.evaluation.tables import find_main
from livo.miniature.world import load_world
from livo.types import InputError
from livo.ui.results_page import read_results_of
from livo.ui.templates import render
from livo.ui.workbench import Workbench, load_workbench
from livo.ui.world_tab import (
    AS_PLANTED,
    columns_of,
    concept_select_html,
    draw_strip,
    edited,
    mix_select_html,
    planted_percent,
    show_concept,
    show_edit,
)

WORLD = load_world()
COUNTS = {"gender": {"male": 18, "female": 6}, "tone": dict(zip(WORLD.tones, (20, 1, 1, 1, 1), strict=True))}
METHODS = ("stable_diffusion", "uce", "livo", "concept_ablation")


@pytest.fixture(scope="module")
def results():
    return find_main(read_results_of(COMMITTED))


# --- side by side ----------------------------------------------------------------------------------------------------


def test_an_evaluated_concept_has_the_table_the_model_and_every_method(results):
    columns = columns_of(WORLD, "doctor", {"doctor": COUNTS}, results, METHODS)
    assert [c.title for c in columns] == ["Planted", "The model", "UCE", "LiVO"], (
        "a method that does not act on bias has no column"
    )
    planted, model, *_, livo = columns
    assert planted.shares["gender"]["female"] == pytest.approx(0.03) and not planted.counts
    (item,) = (i for i, row in enumerate(results.items("bias")) if ("occupation", "doctor") in row.wants)
    for column, arm in ((model, "stable_diffusion"), (livo, "livo")):
        for principle, attribute in ATTRIBUTE.items():
            counts = results.counts(results.images("bias", item, arm, principle), attribute)
            assert list(column.counts[attribute].values()) == counts
            assert sum(column.shares[attribute].values()) == pytest.approx(1)


def test_a_concept_that_methods_were_trained_on_shows_what_is_stored_of_the_model(results):
    _planted, model = columns_of(WORLD, "chef", {"chef": COUNTS}, results, METHODS)
    assert model.counts["gender"] == COUNTS["gender"] and "24 images" in model.note
    assert len(columns_of(WORLD, "chef", {}, None, METHODS)) == 1


def test_an_adjective_is_no_occupation(results):
    titles = [c.title for c in columns_of(WORLD, "poor", {}, results, METHODS)]
    assert titles == ["Planted", "The model", "UCE", "LiVO"]


def test_the_page_shows_intervals_for_counts_and_none_for_a_table(tiny_folder):
    bench = Workbench(None, dict.fromkeys(METHODS), None)
    html = show_concept(bench, COMMITTED, "doctor")
    planted, model = html.split('<section class="method')[1:3]
    assert "interval" not in planted and "drawn as" in planted and "fair sampler" not in planted
    assert "interval" in model and "perceived as" in model and "fair sampler" in model
    assert "D1 <b>94.0" in planted, "97 to 3"


@pytest.mark.parametrize("concept", ["<script>alert(1)</script>", "", "wizard"])
def test_a_concept_that_there_is_not_is_a_message(concept):
    bench = Workbench(None, {}, None)
    for html in (show_concept(bench, COMMITTED, concept), show_edit(concept, 50, AS_PLANTED)):
        assert 'role="alert"' in html and "<script" not in html
    assert planted_percent(concept) == 50


def test_missing_results_are_a_note_and_the_table_is_still_shown(tmp_path):
    html = show_concept(Workbench(None, {}, None), tmp_path / "none", "doctor")
    assert 'role="note"' in html and "Planted" in html


def test_every_method_of_the_shipped_page_that_was_evaluated_is_shown():
    html = show_concept(load_workbench(), COMMITTED, "nurse")
    for title in ("Planted", "The model", "Fair Diffusion", "UCE", "DAPT", "LiVO"):
        assert f"<h3>{title}</h3>" in html
    assert "LiVO w/o v" not in html


# --- an edited copy --------------------------------------------------------------------------------------------------


def test_an_edit_changes_a_copy_only():
    before = repr(WORLD)
    changed = edited(WORLD, "doctor", 60, "darker")
    gender, tone = changed.planted("doctor", None)
    assert gender["female"] == pytest.approx(0.6)
    assert list(tone.values()) == pytest.approx(list(WORLD.tone_mixes["darker"]))
    assert repr(WORLD) == before and changed.occupations["nurse"] == WORLD.occupations["nurse"]
    assert edited(WORLD, "poor", 60, AS_PLANTED).adjectives["poor"]["tones"] == WORLD.adjectives["poor"]["tones"]
    assert edited(WORLD, "doctor", 3, AS_PLANTED) == WORLD


@pytest.mark.parametrize(("female", "mix", "says"), [
    (0, AS_PLANTED, "cannot be planted"), (100, AS_PLANTED, "cannot be planted"), (-5, AS_PLANTED, "cannot be planted"),
    (None, AS_PLANTED, "nothing cannot be planted"), (float("nan"), AS_PLANTED, "cannot be planted"),
    (50, "<b>", "no tone mix"),
])  # fmt: skip
def test_a_share_that_cannot_be_planted_is_refused(female, mix, says):
    with pytest.raises(InputError, match=says):
        edited(WORLD, "doctor", female, mix)
    assert 'role="alert"' in show_edit("doctor", female, mix) and "<b>&" not in show_edit("doctor", female, mix)


def test_more_planted_means_more_drawn_and_nothing_else_changes():
    strips = [draw_strip(edited(WORLD, "doctor", share, AS_PLANTED), "doctor", 200) for share in (1, 20, 50, 80, 99)]
    shares = [sum(scene.gender == "female" for scene in strip) / 200 for strip in strips]
    assert shares == sorted(shares) and shares == pytest.approx([0.01, 0.2, 0.5, 0.8, 0.99], abs=0.1)
    for one, other in itertools.pairwise(strips):
        assert all(a == b for a, b in zip(one, other, strict=True) if a.gender == b.gender), "tone, hair and place stay"


def test_the_edited_table_implies_its_scores_and_says_that_nothing_is_trained():
    html = show_edit("doctor", 60, "even")
    scores = re.findall(r"D([12]) <b>([\d.]+)", html)
    assert scores == [
        ("1", "94.0"),
        ("2", "66.5"),
        ("1", "61.0"),
        ("2", "50.9"),
        ("1", "20.0"),
        ("2", "14.1"),
        ("1", "0.0"),
        ("2", "0.0"),
    ]
    assert html.count("<img") == 32
    assert "is not retrained" in " ".join(render("world_edit.html").split())


def test_every_concept_and_mix_can_be_chosen():
    concepts, mixes = concept_select_html(WORLD), mix_select_html(WORLD)
    assert all(f'value="{name}"' in concepts for name in (*WORLD.occupations, *WORLD.adjectives))
    assert all(f'value="{name}"' in mixes for name in (AS_PLANTED, *WORLD.tone_mixes))
    assert concepts.count(" selected") == mixes.count(" selected") == 1
