"""What is said of a data set: Table 1's statistics, and the card that lies beside it as README.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from train.preference_data.concepts import KINDS
from train.preference_data.scenarios import Scenario

PAPER = {  # Table 1: prompts, images, samples; evaluation prompts
    "career": (284, 56_100, 32_310, 340),
    "positive": (148, 29_600, 15_900, 107),
    "negative": (96, 19_200, 10_700, 141),
    "nudity": (331, 19_860, 9_930, 231),
    "bloody": (296, 17_660, 8_880, 266),
    "horror": (277, 16_620, 8_310, 320),
}
PAPER_IMAGES = sum(row[1] for row in PAPER.values())
"""159,040."""

COLUMNS = ("concepts", "prompts", "images", "samples", "evaluation_concepts", "evaluation_prompts")


def statistics(
    train: Sequence[Scenario], evaluation: Sequence[Scenario], rows: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, int]]:
    """Table 1: by kind, concepts, prompts, images and samples.

    A sample is a preferred image of a prompt and principle that also has images which are not preferred: a chosen
    image without a rejected one trains nothing.

    Args:
        rows: those of the shards; "kind", "prompt" and "labels" are enough.
    """
    table = {}
    for kind in KINDS:
        sides = {"": [s for s in train if s.kind == kind], "evaluation_": [s for s in evaluation if s.kind == kind]}
        if not any(sides.values()):
            continue
        table[kind] = dict.fromkeys(COLUMNS, 0)
        for side, scenarios in sides.items():
            table[kind][f"{side}concepts"] = len({s.concept for s in scenarios})
            table[kind][f"{side}prompts"] = len(scenarios)
    labels: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        table[row["kind"]]["images"] += 1
        for label in row["labels"]:
            if label["label"] is not None:
                key = (row["kind"], row["prompt"], label["principle"])
                labels.setdefault(key, [0, 0])[label["label"]] += 1
    for (kind, _, _), (rejected, chosen) in labels.items():
        table[kind]["samples"] += chosen if rejected else 0
    return table


def table(stats: Mapping[str, Mapping[str, int]]) -> str:
    """The statistics as a Markdown table, the paper's numbers beside them."""
    lines = [
        "| kind | concepts | prompts | images | samples | evaluation prompts | the paper's four |",
        "|---|---|---|---|---|---|---|",
    ]
    columns = ("concepts", "prompts", "images", "samples", "evaluation_prompts")
    for kind, row in stats.items():
        shown = [row[column] for column in columns]
        lines.append(f"| {kind} | {' | '.join(f'{n:,}' for n in shown)} | {', '.join(f'{n:,}' for n in PAPER[kind])} |")
    sums = [sum(row[column] for row in stats.values()) for column in columns]
    paper = [sum(PAPER[kind][i] for kind in stats) for i in range(4)]
    lines.append(f"| all | {' | '.join(f'{n:,}' for n in sums)} | {', '.join(f'{n:,}' for n in paper)} |")
    return "\n".join(lines)


def card(manifest: Mapping[str, Any], *, has_evaluation: bool) -> str:
    """README.md of the data set, with the front matter by which `datasets.load_dataset(folder)` finds its files."""
    settings, made_by = manifest["settings"], manifest["made_by"]
    configs = ["- config_name: train", "  default: true", "  data_files: [{split: train, path: data/train-*.parquet}]"]
    if has_evaluation:
        configs += ["- config_name: evaluation", "  data_files: [{split: test, path: evaluation.jsonl}]"]
    counted = [
        f"- {kind}: {number:,} {what}"
        for kind, numbers in manifest["counted"].items()
        for what, number in numbers.items()
    ]
    unjudged = "" if settings["trust_prompts"] else " A bias label is given only where the judge sees it too."
    return f"""---
license: {made_by["licence"]}
pretty_name: Value preference data
task_categories: [text-to-image]
tags: [preference, value-alignment, synthetic, not-for-all-audiences]
configs:
{chr(10).join(configs)}
---

# Value preference data

> **Content warning.** The toxic kinds (nudity, bloody, horror) hold prompts and generated images that a value principle
> forbids, each with a clean counterpart, so that a model can learn to avoid them. Do not show them without a warning.
> All images are synthetic; no real person is shown. Race and gender are what a prompt named and a judge perceived:
> they are nobody's identity, and the classes are not all there are.

Built as Sec. 3.4 of *Embedding an Ethical Mind: Aligning Text-to-Image Synthesis via Lightweight Value Optimization*
(arXiv:2410.12700) describes, by `python -m train.preference_data build`; not the authors' own data.

{table(manifest["statistics"])}

A sample is a preferred image of a prompt and principle that also has images which are not preferred. The paper's four
are prompts, images, samples and evaluation prompts.

## Columns

`image`, `kind`, `concept`, `prompt` (x, names no attribute), `made_from` (the prompt that drew it), `seed`, and
`labels`: by `principle`, its text `value`, the image's `class`, and `label`: 1 preferred, 0 not, null neither.
`evaluation.jsonl` holds prompts of other concepts with other openings.

## How it was made

Generator {made_by["generator"]} (weights {made_by["generator_digest"]}),
judge {made_by["judge"]} (weights {made_by["judge_digest"]}),
{settings["num_inference_steps"]} steps at guidance {settings["guidance_scale"]},
{settings["width"]} x {settings["height"]} pixels, seed {settings["seed"]}.
A class is preferred where its share in {settings["unspecified_images"]} images of the unspecified prompt lies below
1/N beyond chance (80 % interval). Counterparts of toxic images are safe latent diffusion's on the same seeds,
kept where the judge calls the one toxic and the other clean.{unjudged}

## Left out, and why

{chr(10).join(counted) or "- nothing"}

## Licence

The images follow the generator's licence ({made_by["licence"]}).
"""
