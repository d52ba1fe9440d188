"""What honest visitors find without and with hostile clients beside them: `python -m tests.siege --crowd 10`."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import httpx

from tests.besieged import ROOT, Line, Target
from tests.crowd import HONEST, HOSTILE, Window, honest
from tests.visitors import function_of_the_page


def beside(target: Target, seconds: float) -> Iterator[Line]:
    """Honest visitors beside hostile clients for some seconds, and half as long without them, in turn, twice each.

    Every client has an address of its own.
    """
    function = function_of_the_page(target.base)
    opened = target.resting()
    every_size(target)
    windows, memory, answers = {False: Window(), True: Window()}, [target.resting()], Counter[str]()
    for turn in range(4):
        attacked = bool(turn % 2)
        lasts = seconds / (2 if attacked else 4)
        command = [sys.executable, "-m", "tests.crowd", target.base, str(function), str(lasts)]
        attack = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) if attacked else None
        asyncio.run(honest(target.base, function, windows[attacked], 1_000 * turn, lasts))
        if attack:
            for line in attack.communicate(timeout=60)[0].splitlines():
                act, _, rest = line.rpartition(": ")
                answers[f"{act}: {rest.split(' x ')[1]}"] += int(rest.split(" x ")[0])
        memory.append(target.resting())
    for attacked, window in windows.items():
        for failure in window.diary.failures[:5]:
            print(f"{'beside' if attacked else 'alone'}: {failure}", file=sys.stderr)
    print("\n".join(f"{n:>7} x {answer}" for answer, n in sorted(answers.items())), file=sys.stderr)
    alone, there = windows[False], windows[True]

    def p95(waits: list[float]) -> float:
        return statistics.quantiles(waits, n=20)[-1]

    def held(before: list[float], after: list[float]) -> bool:
        return p95(after) <= 1.5 * p95(before) and not there.diary.failures

    title = f"{HONEST} visitors beside {HOSTILE} hostile"
    waits, waits_there = alone.diary.waits, there.diary.waits
    yield Line(
        "load", f"{title}: pictures", held(waits, waits_there),
        f"p95 {p95(waits):.1f} s alone (n={len(waits)}), {p95(waits_there):.1f} s beside them (n={len(waits_there)}); "
        f"{sum(there.diary.messages.values())} other messages, {len(there.diary.failures)} without an answer; "
        f"{sum(answers.values()) / seconds:.0f} attacks a second",
    )  # fmt: skip
    yield Line(
        "load", f"{title}: other answers", held(alone.looks, there.looks),
        f"p95 {1000 * p95(alone.looks):.0f} ms alone (n={len(alone.looks)}), "
        f"{1000 * p95(there.looks):.0f} ms beside them (n={len(there.looks)})",
    )  # fmt: skip
    grown, told = max(memory[1:]) / memory[0] - 1, ", ".join(f"{mb:.0f}" for mb in memory[1:])
    yield Line(
        "load", f"{title}: memory", grown < 0.05,
        f"{100 * grown:+.1f} % of {memory[0]:.0f} MB after one comparison of each size ({told} after each window; at "
        f"most {target.status('peak'):.0f} at work)",
    )  # fmt: skip
    left = memory[-1] / opened - 1
    yield Line("load", f"{title}: given back", left < 0.1, f"{100 * left:+.1f} % of {opened:.0f} MB at the start")


def every_size(target: Target) -> None:
    """One comparison of every size that visitors of the crowd ask for, and one as large as hostile clients may."""
    sizes = [(methods, images) for methods in ("livo", "stable_diffusion,livo", "stable_diffusion,uce,livo")
             for images in (1, 2, 3, 4)]  # fmt: skip
    for number, (methods, images) in enumerate((*sizes, ("stable_diffusion,livo", 8))):
        data = {"data": ["a photo of a doctor", "auto", methods, number, images]}
        joined = httpx.post(f"{target.base}/gradio_api/call/compare", json=data).json()
        httpx.get(f"{target.base}/gradio_api/call/compare/{joined['event_id']}", timeout=120)
    data = {"data": ["a photo of a doctor", "auto", "livo", 0, 50]}
    joined = httpx.post(f"{target.base}/gradio_api/call/bias_report", json=data).json()
    httpx.get(f"{target.base}/gradio_api/call/bias_report/{joined['event_id']}", timeout=240)
