"""From a command line to the workbench that a page is opened on: which model, for whom, and what answers if it fails.

Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from livo.inputs import add_model_arguments, method_settings, model_changes
from livo.ui.zero_gpu import zero_gpu

if TYPE_CHECKING:
    from livo.ui.workbench import Workbench

DRAWN_WORLD = "miniature"
ON = ("1", "true", "yes")


def add_page_arguments(parser: argparse.ArgumentParser, environment: Mapping[str, str] = os.environ) -> None:
    """The model's flags, and who may see what. A Space starts the page without flags and sets variables instead."""
    add_model_arguments(parser)
    parser.set_defaults(
        backbone=environment.get("LIVO_BACKBONE", DRAWN_WORLD),
        value_encoder=environment.get("LIVO_VALUE_ENCODER"),
        judge=environment.get("LIVO_JUDGE", "auto"),
        official_prompts=environment.get("LIVO_OFFICIAL_PROMPTS", "").lower() in ON,
    )
    parser.add_argument(
        "--public", action="store_true", default=bool(environment.get("SPACE_ID")),
        help="refuse toxic prompts and withhold toxic images (always so on a Space)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-toxic-prompts", action="store_true",
        default=environment.get("LIVO_ALLOW_TOXIC_PROMPTS", "").lower() in ON,
        help="in public too; nothing is withheld then",
    )  # fmt: skip


def open_workbench(args: argparse.Namespace) -> Workbench:
    """The workbench that the arguments ask for; the drawn world's where that cannot be loaded, with a notice."""
    from livo.ui.access import STAND_INS, Access
    from livo.ui.workbench import load_workbench

    # The drawn world needs nobody's GPU time.
    device = args.device or ("cpu" if args.backbone == DRAWN_WORLD and zero_gpu() else None)
    bench = load_workbench(
        args.backbone, device, args.dtype, method_settings(args), args.judge, model_changes(args), graphs=args.graphs
    )
    access = Access(args.public, args.allow_toxic_prompts)
    drawn_access = replace(access, stand_ins=STAND_INS)
    if args.backbone == DRAWN_WORLD:
        return lent(replace(bench, access=drawn_access))
    drawn = replace(load_workbench(DRAWN_WORLD, "cpu"), access=drawn_access)
    if bench.engine is None:
        return replace(drawn, notice=f"{bench.problem}. The drawn world answers instead.")
    return lent(replace(bench, access=access, fallback=drawn))


def lent(bench: Workbench) -> Workbench:
    """The workbench with its comparisons on a lent GPU, where GPUs are lent and it is on one."""
    from livo.ui.serving import on_a_lent_gpu

    if bench.engine is None or bench.engine.backbone.device.type != "cuda":
        return bench
    return replace(bench, generate=on_a_lent_gpu(bench))


def problems(bench: Workbench) -> list[str]:
    """What could not be loaded, a line each."""
    return [
        text
        for text in (bench.notice, bench.problem, bench.judge_problem, *(e.problem for e in bench.entries.values()))
        if text
    ]
