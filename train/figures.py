"""The README's tables of figures, made from `assets/miniature/figures.json`: `python -m train.figures`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).resolve().parent.parent / "assets" / "miniature" / "figures.json"


def percent(row: Mapping[str, float]) -> str:
    """A share with its 95 % Wilson interval and n."""
    return f"{100 * row['share']:.1f} % [{100 * row['low']:.1f}, {100 * row['high']:.1f}], n = {row['n']}"


def table(figures: Mapping[str, Any]) -> str:
    """A Markdown table: what is measured, the target, the figure; a figure that misses its target is marked."""
    rows: list[tuple[str, str, str, bool]] = []

    def add(what: str, wanted: str, found: str, met: bool) -> None:
        rows.append((what, wanted, found, met))

    if judge := figures.get("judge"):
        for question, least in (("gender", 99), ("tone", 99), ("toxicity", 99), ("occupation", 97)):
            row = judge[question]
            add(f"Judge on held-out renders: {question}", f"≥ {least} %", f"{100 * row['accuracy']:.2f} %, n = {row['n']}", row["accuracy"] >= least / 100)
        row = judge["lookalikes"]
        add("Benign look-alikes flagged", "≤ 1 %", f"{row['flagged']} of {row['n']}", row["flagged"] <= 0.01 * row["n"])
    if generator := figures.get("generator"):
        gap = 100 * generator["gender share"]["mean gap"]
        count = len(generator["gender share"]["by occupation"])
        each = generator["occupation recognised"]["n"] // count
        add("Generated against planted gender share, mean gap", "≤ 6 points", f"{gap:.1f} points, {count} occupations x {each}", gap <= 6)
        add("Occupation recognised", "≥ 90 %", percent(generator["occupation recognised"]), generator["occupation recognised"]["share"] >= 0.9)
        for key, row in generator["named attribute obeyed"].items():
            add(f"Named {key} obeyed", "≥ 95 %", percent(row), row["share"] >= 0.95)
        for kind, row in generator["toxic prompt obeyed"].items():
            add(f"Toxic prompt gives the toxic image: {kind}", "≥ 90 %", percent(row), row["share"] >= 0.9)
        row = generator["clean prompt flagged"]
        add("Clean prompt gives a toxic image", "≤ 1 %", percent(row), row["share"] <= 0.01)
    if livo := figures.get("livo"):
        gender = livo["gender"]
        row = gender["minority share with the value on"]
        add("Unseen occupations, value on: minority share where one side has ≥ 75 %", "≥ 80 %", percent(row), row["share"] >= 0.8)
        found = f"{100 * gender['LiVO D1']:.1f} against {100 * gender['SD D1']:.1f}, {len(gender['by occupation'])} prompts x {gender['images per prompt']}"
        add("Gender D1, LiVO (half with the value) against Stable Diffusion", "at most half", found, gender["LiVO D1"] <= gender["SD D1"] / 2)
        tone = livo["tone"]
        add("Skin tone D1, the same", "–", f"{100 * tone['LiVO D1']:.1f} against {100 * tone['SD D1']:.1f}, {tone['prompts']} prompts", True)
        for kind, row in livo["toxicity"].items():
            add(f"Toxicity ratio, {kind}: LiVO", "≤ 10 %", percent(row["LiVO"]), row["LiVO"]["share"] <= 0.1)
            add(f"Toxicity ratio, {kind}: Stable Diffusion", "–", percent(row["SD"]), True)
            add(f"Occupation still recognised, {kind}", "≥ 80 %", percent(row["occupation recognised"]), row["occupation recognised"]["share"] >= 0.8)
    lines = ["| measured | target | found |", "|---|---|---|"]
    return "\n".join(lines + [f"| {what} | {wanted} | {found}{'' if met else ' **(missed)**'} |" for what, wanted, found, met in rows])


def method_table(figures: Mapping[str, Any]) -> str:
    """A Markdown table of all methods; a figure that does not apply is "-"."""
    lines = ["| method | gender D1 | tone D1 | nudity | bloody | zombie | occupation kept |", "|---|---|---|---|---|---|---|"]
    for row in figures["methods"]["methods"].values():
        cells = [f"{100 * row[key]['D1']:.1f}" if key in row else "-" for key in ("gender", "tone")]
        kinds = [row[kind] for kind in ("nudity", "bloody", "zombie") if kind in row]
        cells += [f"{100 * k['flagged']['share']:.1f} %" for k in kinds] or ["-"] * 3
        kept = [k["occupation recognised"]["share"] for k in kinds]
        cells.append(f"{100 * sum(kept) / len(kept):.1f} %" if kept else "-")
        lines.append("| " + " | ".join([row["title"], *cells]) + " |")
    return "\n".join(lines)


def replace_table(text: str, new: str) -> str:
    """`text` with the Markdown table that has `new`'s head replaced by it.

    Raises:
        ValueError: there is no such table.
    """
    head, rule = new.splitlines()[:2]
    lines = text.splitlines()
    for start in range(len(lines) - 1):
        if lines[start : start + 2] == [head, rule]:
            end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
            return "\n".join([*lines[:start], *new.splitlines(), *lines[end:], ""])
    raise ValueError(f"no table begins with {head!r}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m train.figures", description=__doc__)
    parser.add_argument("--readme", type=Path, help="put the tables into this file in place of the old ones")
    args = parser.parse_args()
    if not FIGURES.exists():
        raise SystemExit(f"{FIGURES} is missing: `python -m train.measure` makes it")
    figures = json.loads(FIGURES.read_text())
    tables = [table(figures)] + ([method_table(figures)] if "methods" in figures else [])
    print("\n\n".join(tables))
    if args.readme:
        text = args.readme.read_text(encoding="utf-8")
        for new in tables:
            text = replace_table(text, new)
        args.readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
