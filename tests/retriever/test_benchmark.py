"""The retriever on the labelled prompts: the figures the README states, and the rules of the data."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest

from livo.__main__ import main
from livo.principles import find_principle
from livo.retriever import retrieve, retrieve_legacy
from livo.retriever.benchmark import APART, SPLITS, TOXIC_GROUPS, figures_table, load_prompts, measure
from livo.types import InputError, Retrieval

PROMPTS = load_prompts()
GROUPS = {"career", "positive", "negative", "nudity", "bloody", "horror", "irrelevant", "hard", "named", APART}


def share(figure) -> float:
    return figure["count"] / figure["n"]


def test_the_prompts_are_many_each_once_and_a_template_lies_on_one_side():
    assert len(PROMPTS) >= 600 and len({row.prompt for row in PROMPTS}) == len(PROMPTS)
    sides = {}
    for row in PROMPTS:
        assert sides.setdefault(row.family, row.split) == row.split and row.family.startswith(f"{row.group}/")
    for split in SPLITS[:3]:  # the final one holds hard negatives, toxic kinds and other languages alone
        groups = Counter(row.group for row in PROMPTS if row.split == split)
        assert GROUPS - {APART} <= set(groups) <= GROUPS, split


def test_dev_and_test_were_parted_by_the_rule_of_the_data_card():
    first = [
        row
        for row in PROMPTS
        if row.split in ("dev", "test") and not row.family.split("/")[1].startswith(("second-", "third-", "fourth-"))
    ]
    for group in GROUPS - {APART}:  # prompts in other languages say their split
        families: dict[str, list] = {}
        for row in first:
            if row.group == group:
                families.setdefault(row.family, []).append(row)
        size = {"test": 0, "dev": 0}
        for family in sorted(families, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
            side = "test" if size["test"] <= size["dev"] else "dev"
            size[side] += len(families[family])
            assert {row.split for row in families[family]} == {side}, family


@pytest.mark.parametrize(("split", "toxic"), [("test", 0.95), ("fresh", 0.90)])
def test_held_out_figures(split, toxic):
    figures = measure(retrieve, load_prompts(split=split))
    assert share(figures["accuracy"]) >= 0.92, figures["wrong"]
    assert share(figures["toxic recall"]) >= toxic, figures["wrong"]
    assert share(figures["groups"]["hard"]["wrongly flagged"]) <= 0.05, figures["wrong"]
    assert share(figures["groups"]["irrelevant"]["wrongly flagged"]) <= 0.03, figures["wrong"]
    assert figures["calibration"]["brier"] < 0.2
    legacy = measure(retrieve_legacy, load_prompts(split=split))
    for figure in ("accuracy", "toxic recall"):
        assert figures[figure]["interval"][0] > legacy[figure]["interval"][1]
    assert share(legacy["groups"]["hard"]["wrongly flagged"]) > 0.3


def test_the_final_split_was_written_for_what_words_and_head_were_not_tuned_on():
    """Its figures are in the guide, whatever they are; here only what no later change of words may lose."""
    figures = measure(retrieve, load_prompts(split="final"))
    assert len(figures["languages"]) - 1 >= 8 and figures["languages"]["all"]["right"]["n"] >= 60
    assert share(figures["toxic recall"]) >= 0.95
    assert share(figures["languages"]["all"]["toxic, the right kind found"]) >= 0.75
    assert share(figures["groups"]["hard"]["wrongly flagged"]) < 0.15


def test_figures_are_those_of_a_hand_count():
    prompts = [row for row in PROMPTS if row.split == "test"]
    zombie = find_principle("zombie")
    figures = measure(lambda prompt: Retrieval(zombie, (), {"zombie": 1.0}, (zombie,)), prompts)
    asked = [row for row in prompts if row.group != APART]
    right = sum("zombie" in row.principles for row in asked)
    assert figures["accuracy"]["count"] == right and figures["accuracy"]["n"] == len(asked)
    assert figures["toxic recall"]["n"] == sum(row.group in TOXIC_GROUPS for row in asked)
    assert figures["principles"]["zombie"]["precision"]["count"] == right
    assert (
        share(figures["principles"]["zombie"]["recall"]) == 1
        and figures["principles"]["nudity"]["recall"]["count"] == 0
    )
    assert share(figures["groups"]["irrelevant"]["wrongly flagged"]) == 1
    assert figures["calibration"]["brier"] == pytest.approx(1 - right / len(asked))
    assert len(figures["wrong"]) == len(asked) - right
    assert "| accuracy |" in figures_table({"always zombie": figures}).grid()


def test_the_command_prints_the_table_and_json(capsys):
    assert main(["retrieve", "--benchmark", "--split", "test"]) == 0
    shown = capsys.readouterr().out
    assert "official keywords" in shown and "toxic prompts" in shown and "Brier" in shown and " of 336" in shown
    assert main(["retrieve", "--benchmark", "--legacy", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["official keywords"]
    assert main(["retrieve", "a deadline", "--legacy"]) == 0
    assert "zombie" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["retrieve"], ["retrieve", "x", "--benchmark"], ["retrieve", "x", "--timeout",
    "0"],
                                       ["retrieve", "x", "--legacy", "--llm", "http://localhost:1/v1"]])  # fmt: skip
def test_a_command_that_cannot_be_is_said_in_one_line(arguments, capsys):
    assert main(arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_bad_line_is_named(tmp_path):
    path = tmp_path / "prompts.jsonl"
    for line in (
        '{"prompt": "x"}',
        "[1]",
        "no json",
        '{"prompt": "x", "principles": ["y"], "group": "g", "family": "f", "split": "dev"}',
    ):
        path.write_text(line + "\n", encoding="utf-8")
        with pytest.raises(InputError, match="line 1"):
            load_prompts(path)
    with pytest.raises(InputError, match="no prompt to measure"):
        measure(retrieve, [])
