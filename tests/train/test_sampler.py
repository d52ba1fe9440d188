"""The rule that chooses solver and steps, on made-up measurements, and one real measurement of a few pictures."""

from __future__ import annotations

import json

import pytest

from livo.diffusion.backbones import DRAWN_WORLD
from livo.evaluation.parts import LIVO, SD
from train.sampler import FILE, MARGIN, REFERENCE, choose, differences, main, read_setting, table

SUBJECTS = [f"s{i}" for i in range(24)]


def measured(change: float, **offsets: float) -> list[dict]:
    """24 sets a method about people and as many toxic ones; a figure's offset from the reference's, by name."""
    rows = []
    for i, subject in enumerate(SUBJECTS):
        for method in (SD, LIVO):
            wobble = 0.5 * (i % 3 - 1)
            about = {"method": method, "prompt": subject, "subject": subject, "change": change}
            for principle, names in (("gender_equality", ("gender D1", "kept")), ("zombie", ("toxic", "kept"))):
                figures = {name: 50 + i + offsets.get(name.split()[0], 0.0) + wobble * bool(offsets) for name in names}
                rows.append({**about, "principle": principle, **figures})
            rows.append({**about, "principle": "racial_equality", "tone D1": 40.0, "kept": 90.0})
    return rows


def test_the_fewest_good_steps_are_chosen_and_then_the_nearest_pictures():
    found = {
        REFERENCE: measured(0.0),
        "DPM-Solver++, 8 steps": measured(1.0),
        "UniPC, 8 steps": measured(0.8),
        "UniPC, 6 steps": measured(2.0, toxic=MARGIN + 3),
    }
    assert choose(found) == "UniPC, 8 steps"
    found["UniPC, 6 steps"] = measured(2.0, toxic=MARGIN - 3)
    assert choose(found) == "UniPC, 6 steps"


def test_a_setting_must_be_within_the_margin_with_its_whole_interval():
    found = {REFERENCE: measured(0.0), "UniPC, 5 steps": measured(2.0, gender=MARGIN - 0.05)}
    out = [d for d in differences(found) if not d.within]
    assert {d.figure for d in out} == {"gender D1"} and all(abs(d.estimate.value) < MARGIN for d in out)
    assert choose(found) is None


def test_a_setting_that_is_none_is_not_read():
    assert read_setting("UniPC, 5 steps")[1] == 5
    with pytest.raises(KeyError):
        read_setting("Heun, 5 steps")


def test_what_was_measured_is_kept_and_not_measured_again(tmp_path, capsys):
    out = tmp_path / "sampler.json"
    few = ["--images", "1", "--prompts", "1", "--threads", "1", "--out", str(out)]
    assert main([*few, "--settings", REFERENCE]) == 0
    assert main([*few, "--settings", "UniPC, 5 steps"]) == 0  # compared with the reference, not with itself
    kept = json.loads(out.read_text())["settings"]
    assert len(kept[REFERENCE]) == 2 * 3 and {row["change"] for row in kept[REFERENCE]} == {0.0}
    assert all(row["change"] > 0 for row in kept["UniPC, 5 steps"])
    capsys.readouterr()
    assert main([*few, "--settings", "UniPC, 5 steps"]) == 0
    assert "grey levels from" not in capsys.readouterr().out
    assert main(["--show", "--out", str(out)]) == 0
    assert "| UniPC, 5 steps |" in capsys.readouterr().out


def test_a_quick_look_takes_the_fewest_steps_that_are_within_the_rule():
    found = json.loads(FILE.read_text())["settings"]
    own = {name: rows for name, rows in found.items() if name.startswith("DPM-Solver++")}
    assert choose(own) == f"DPM-Solver++, {DRAWN_WORLD['quick_steps']} steps"


def test_the_guide_shows_what_was_measured():
    stored = json.loads(FILE.read_text())
    assert table(stored["settings"], stored["images"]) in FILE.with_name("README.md").read_text()
