"""The results tab without a browser: what it shows, escapes, covers and says where results are missing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from evaluated import MAIN, save, synthetic, with_pictures

from livo.evaluation.cases import case_images, describe, figure_5, veiled
from livo.evaluation.results import Results
from livo.types import InputError
from livo.ui.results_page import FOLDER, STORED, digest, make_page, page_of, store_page
from livo.ui.results_tab import open_tab, show_point
from livo.ui.results_view import pictures_html, results_html
from livo.ui.rows import data_uri


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    save(with_pictures(synthetic(MAIN), root / "main"), root / "main")
    return root


@pytest.fixture(scope="module")
def results(folder) -> Results:
    return Results.read(folder / "main")


def test_every_figure_says_its_n_its_floor_and_its_command(folder):
    top, below = open_tab(folder)
    assert "6 prompts about people x 20 images" in " ".join(top.split()) and "3b" in top
    for name in ("--figure 3b", "--figure 3c"):
        assert name in top
    assert "python -m livo evaluate --report claims" in top
    for name in ("--table 1", "--table 2", "--table 3", "--report controls"):
        assert f"python -m livo evaluate {name}" in below
    assert top.count("A fair sampler") >= 2 and "a fair sampler" in below
    assert "--value-encoders" in below, "convergence says what it needs"


def test_nothing_is_fetched_and_names_are_escaped(results):
    uce = replace(results.header.methods["uce"], title="<img src=x onerror=alert(1)>")
    header = replace(results.header, methods={**results.header.methods, "uce": uce})
    top, below = results_html([Results(results._columns, header, results.folder)])
    assert "<img" not in top + below and "&lt;img" in top
    assert not re.search(r"(?:src|href)=[\"']?https?:", top + below)


def test_missing_results_name_the_command(tmp_path):
    top, below = open_tab(tmp_path / "none")
    assert 'role="note"' in top and "python -m livo evaluate" in top and below == ""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.parquet").write_bytes(b"no")
    assert "is no results file" in open_tab(tmp_path / "broken")[0]


def test_a_point_shows_its_pictures_beside_stable_diffusions(results):
    shown = pictures_html([results], "livo")
    assert "LiVO" in shown and "Stable Diffusion" in shown and "a picture of a doctor" in shown
    assert shown.count('class="cell') == 2 * 2 * 3
    assert pictures_html([results], "fair_diffusion").count('class="cell') == 2 * 3, "it has none of toxic prompts"


def test_what_a_toxic_prompt_asked_for_is_covered_and_its_clear_form_inert(results):
    shown = pictures_html([results], "stable_diffusion")
    assert shown.count('class="cell covered"') == 3 == shown.count("<template>")
    clear = re.sub(r"<template>.*?</template>", "", shown)
    case = next(c for c in results.header.cases if c.part == "toxicity")
    tiles, _ = case_images(results, case, "stable_diffusion")
    assert all(data_uri(tile) not in clear and data_uri(tile) in shown for tile in tiles)


def test_unknown_points_and_lost_pictures_are_messages(folder, results, tmp_path):
    assert "No pictures of" in show_point(folder, "<b>")
    assert "&lt;b&gt;" in show_point(folder, "<b>")
    lost = Results(results._columns, results.header, tmp_path)
    with pytest.raises(InputError, match="evaluate"):
        pictures_html([lost], "livo")


def test_pictures_of_a_mixing_method_are_the_quotas(results):
    case = next(c for c in results.header.cases if c.part == "bias")
    mixed, _ = case_images(results, case, "livo")
    plain, _ = case_images(results, case, "stable_diffusion")
    taken = results.images("bias", 0, "livo", "gender_equality")["method"][:3] == "livo"
    assert [bool((m == p).all()) for m, p in zip(mixed, plain, strict=True)] == [not t for t in taken]
    assert 0 < taken.sum() < 3 or len(set(taken)) == 1


def test_figure_5_is_one_picture_in_which_toxic_images_cannot_be_made_out(results):
    picture = figure_5(results)
    assert picture.width > 100 and picture.height > 100
    tile = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert len(np.unique(veiled(tile).reshape(-1, 3), axis=0)) <= 64
    assert "unclothed" in describe(results)


# --- stored beside the results ---------------------------------------------------------------------------------------


def test_the_shipped_page_is_what_the_shipped_results_make():
    """Else: python -m livo.ui.results_page"""
    stored = json.loads((FOLDER / STORED).read_text(encoding="utf-8"))
    assert stored["key"] == digest(FOLDER), "the results are newer than the page"
    assert (stored["top"], stored["below"]) == make_page(FOLDER)


def test_a_stored_page_counts_for_its_own_results_alone(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    store_page(copy)
    stored = json.loads((copy / STORED).read_text(encoding="utf-8"))
    (copy / STORED).write_text(json.dumps(stored | {"top": "as stored"}), encoding="utf-8")
    assert page_of(copy).top == "as stored"
    page_of.cache_clear()
    (copy / STORED).write_text(json.dumps(stored | {"top": "as stored", "key": "another"}), encoding="utf-8")
    assert page_of(copy).top == stored["top"]
