"""Several trainings of a method: which they are, whether they may be compared, and their figures side by side.

A training is called by what it varies, with `-seed-N` behind it where another one has that name: `dpo` and
`dpo-seed-1`, `fraction-20` and `fraction-20-seed-2`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from livo.evaluation.header import MethodInfo
from livo.evaluation.parts import SD
from livo.evaluation.results import EVERY, Figures, Results, Select, Statistic
from livo.measures.bootstrap import TwoLevel, bootstrap_of_trainings, two_level

Side = tuple[Results, str, Select]
"""One training's images: the file, the method's id there, and which of its images."""
LOSS = frozenset({"program", "loss", "variant", "beta", "alpha", "gamma_1", "gamma_2"})
"""Settings in which trainings of different losses differ."""


def base_of(method: str) -> str:
    """What a training varies.

    Example:
        >>> base_of("fraction-20-seed-1"), base_of("dpo")
        ('fraction-20', 'dpo')
    """
    return re.sub(r"-seed-\d+$", "", method)


def trainings_of(results: Results | None, base: str) -> list[str]:
    """The file's trainings of that name; Stable Diffusion, which every file holds, is none."""
    if results is None or base == SD:
        return []
    return [method for method in results.methods if base_of(method) == base]


def flags_of(command: str) -> dict[str, str]:
    """A command's flags by name, and its program.

    Example:
        >>> flags_of("python -m train.dpo --beta 250 --official")
        {'program': 'train.dpo', 'beta': '250', 'official': ''}
    """
    words = shlex.split(command)
    found, name = {"program": words[2] if words[1:2] == ["-m"] else words[0]}, ""
    for word in words[3:]:
        if word.startswith("--"):
            name = word.removeprefix("--").replace("-", "_")
            found[name] = ""
        else:
            found[name] = f"{found[name]} {word}".strip()
    return found


def differing(infos: Sequence[MethodInfo | None]) -> set[str]:
    """Settings in which trainings differ, the seed left out; nothing where files do not say how they were made.

    Files of today hold every setting, defaults too; of older ones the commands are compared.
    """
    told = [dict(info.training) for info in infos if info and info.training]
    settings = [dict(one) for t in told if isinstance(one := t.get("settings"), Mapping)]
    if len(settings) < len(told):
        settings = [dict(flags_of(str(t["command"]))) for t in told if "command" in t]
    names = {name for one in settings for name in one} - {"seed"}
    return {name for name in names if len({repr(one.get(name)) for one in settings}) > 1}


def comparable(
    results: Results, methods: Sequence[str], varied: Collection[str], reference: str
) -> tuple[list[str], str]:
    """Trainings that differ from a reference in nothing but what is varied, and a sentence about those that do.

    Returns:
        The methods that may be compared, and why others are left out; an empty sentence where none is.
    """
    info = results.header.methods
    wrong = {m: sorted(differing([info[m], info[reference]]) - set(varied)) for m in methods}
    out = [f"{m} ({', '.join(names)})" for m, names in wrong.items() if names]
    said = f" Left out, because they differ from {reference} in more than what is varied: {', '.join(out)}."
    return [m for m, names in wrong.items() if not names], said if out else ""


def as_many(further: Results) -> Select:
    """The first seeds, as many as another file has: to compare with it."""
    return Select(seeds=further.size("bias")[1])


@dataclass(frozen=True)
class Trainings:
    """What claims are tested on: the methods, and further trainings of them on some of the same prompts.

    A method that has further trainings is the mean of all of them, and what it is compared with is taken on the
    prompts and images of their file.
    """

    main: Results
    further: Results | None = None

    def trainings(self, method: str) -> list[Side]:
        """On the prompts of `further`: the method as shipped, where it is in `main`, and its further trainings.

        One that differs from the first in more than its seed is left out.
        """
        if self.further is None:
            return []
        found: list[Side] = [(self.further, name, EVERY) for name in trainings_of(self.further, method)]
        if method in self.main.methods:
            found = [(self.main.only(self.further), method, as_many(self.further)), *found]
        first = found[:1]
        return first + [side for side in found[1:] if not differing([_info(found[0]), _info(side)])]

    def sides(self, *methods: str) -> list[list[Side]]:
        """Of each method its trainings, all on the same prompts and seeds."""
        if not any(trainings_of(self.further, method) for method in methods):
            return [[(self.main, method, EVERY)] for method in methods]
        return [self.trainings(method) for method in methods]

    def has(self, *methods: str) -> bool:
        return all(method in self.main.methods or trainings_of(self.further, method) for method in methods)

    def difference(self, of: Callable[[Results, str, Select], Figures], one: str, other: str) -> TwoLevel:
        """How much higher the first is, of shares, with an interval for new prompts and, of several, new trainings."""
        found = [[of(*side) for side in sides] for sides in self.sides(one, other)]
        d = two_level(np.array(found[0]), np.array(found[1]), found[0][0].clusters)
        x = d.estimate
        return d._replace(estimate=replace(x, low=max(-1.0, x.low), high=min(1.0, x.high))) if x.has_interval else d

    def difference_of_sets(
        self, of: Callable[[Results, str, Select], Statistic | None], one: str, other: str
    ) -> TwoLevel | None:
        """As `difference`, of figures of pooled images; None where one has none."""
        found = [[of(*side) for side in sides] for sides in self.sides(one, other)]
        first, second = ([s for s in side if s is not None] for side in found)
        if [len(first), len(second)] != [len(side) for side in found]:
            return None
        return bootstrap_of_trainings([f for f, _ in first], [f for f, _ in second], first[0][1])

    def note(self) -> str:
        """Which methods have several trainings, as a sentence; empty where none has."""
        bases = dict.fromkeys(map(base_of, self.further.methods)) if self.further else {}
        counts = {base: len(self.trainings(base)) for base in bases}
        several = [f"{base} {n}" for base, n in counts.items() if n > 1]
        if not several or self.further is None:
            return ""
        prompts, images = self.further.size("bias")
        return (
            f" A method trained several times is the mean of its trainings ({', '.join(several)}), and is compared on "
            f"{prompts} + {self.further.size('toxicity')[0]} prompts x {images} images; its intervals are for new "
            "prompts and new seeds."
        )


def _info(side: Side) -> MethodInfo:
    return side[0].header.methods[side[1]]
