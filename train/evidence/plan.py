"""The plan as data: trainings, in rounds, and the sweeps whose trainings are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from livo.evaluation.trainings import LOSS, base_of
from livo.types import InputError
from train.concept_ablation import AblationConfig
from train.dapt import DaptConfig
from train.preference.losses import LOSSES
from train.preference.trainer import MINIATURE, TrainingConfig, constants

SHIPPED = MINIATURE
SHORT = replace(MINIATURE, num_steps=500, num_draws=4)
PAIRS = {SHIPPED: 12_288, SHORT: 8_000}
STEPS = (100, 200, 300, 400, 600, 800, 1000, SHIPPED.num_steps)
"""Of Figure 4; the last is the training's end."""
EVERY, IMAGES = 3, 20
"""Every third evaluation prompt, 20 images each."""
GAMMAS = [(g1, g2) for g1 in (0.5, 1.0, 2.0) for g2 in (0.25, 0.5, 1.0)]


@dataclass(frozen=True)
class Arm:
    """One training.

    Attributes:
        name: as evaluation knows it.
        module: the command.
        flags: all that decides its result, by flag without dashes.
        keep: whether its checkpoints are evaluated.
    """

    name: str
    module: str
    flags: Mapping[str, str]
    keep: bool = False

    def words(self) -> list[str]:
        """The command from `-m`, without folders."""
        return ["-m", self.module, *(word for flag, value in self.flags.items() for word in (f"--{flag}", value))]


@dataclass(frozen=True)
class Sweep:
    """Trainings that are compared, and the flags in which they may differ beside the seed."""

    title: str
    varied: frozenset[str]
    arms: tuple[Arm, ...] = field(repr=False)

    def check(self) -> None:
        """Raises InputError where two trainings differ in more; names them and the flags."""
        first = self.arms[0]
        for arm in self.arms[1:]:
            names = {"module": arm.module != first.module} | {
                flag: arm.flags.get(flag) != first.flags.get(flag) for flag in (*arm.flags, *first.flags)
            }
            if more := sorted({flag for flag, unlike in names.items() if unlike} - self.varied - {"seed"}):
                raise InputError(f"{self.title}: {first.name} and {arm.name} differ in {', '.join(more)} as well")


# --- the plan --------------------------------------------------------------------------------------------------------


def encoder(name: str, loss: str = "livo", config: TrainingConfig = SHIPPED, keep: bool = False, **more: object) -> Arm:
    """A value encoder; `more` are constants of its loss and choices of its data."""
    numbers = {key: value for key, value in asdict(config).items() if value is not False}
    given: dict[str, object] = {
        "loss": loss, **constants(LOSSES[loss]), **numbers, "pairs": PAIRS[replace(config, seed=SHIPPED.seed)],
        "losers": "twin", "fraction": 1.0, "neutral": 0.0, **more,
    }  # fmt: skip
    return Arm(name, "train.value_encoder", {k.replace("_", "-"): str(v) for k, v in given.items()}, keep)


def edits(name: str, module: str, config: DaptConfig | AblationConfig, seed: int) -> Arm:
    """A method that edits weights."""
    flags = {key.replace("_", "-"): str(value) for key, value in asdict(replace(config, seed=seed)).items()}
    return Arm(f"{name}-seed-{seed}", module, flags)


def seeded(name: str, loss: str, seed: int) -> Arm:
    """A shipped method trained again."""
    return encoder(f"{name}-seed-{seed}", loss, replace(SHIPPED, seed=seed), keep=name in ("livo", "dpo"))


def short(name: str, seed: int = 0, loss: str = "livo", **more: object) -> Arm:
    """A training of a sweep."""
    return encoder(name + (f"-seed-{seed}" if seed else ""), loss, replace(SHORT, seed=seed), False, **more)


def share(percent: int, seed: int = 0) -> Arm:
    return short(f"fraction-{percent}", seed, fraction=percent / 100)


def rounds() -> tuple[tuple[Arm, ...], ...]:
    """All trainings. Seed 0 of a shipped method is the shipped one, which the first results file holds."""
    without = [encoder("without-margin" + (f"-seed-{s}" if s else ""), "without-margin", replace(SHIPPED, seed=s))
               for s in range(4)]  # fmt: skip
    methods = (("livo", "livo"), ("dpo", "dpo"), ("dpo_d", "dpo-d"))
    seeds = {s: [*(seeded(name, loss, s) for name, loss in methods), without[s]] for s in (1, 2, 3)}
    dapt = [edits("dapt", "train.dapt", replace(DaptConfig(), num_steps=300), s) for s in (1, 2)]
    ablation = [edits("concept_ablation", "train.concept_ablation", AblationConfig(), s) for s in (1, 2)]
    betas = [short(f"dpo-beta-{b}", loss="dpo", beta=float(b)) for b in (1000, 250, 4000)]
    random = [short("livo-random", losers="random"), short("dpo-random", loss="dpo", losers="random")]
    gammas = [short(f"gamma-{g1}-{g2}", gamma_1=g1, gamma_2=g2) for g1, g2 in GAMMAS]
    return (
        (without[0], *seeds[1], share(100), share(20), share(5)),
        (*random, *betas, short("livo-neutral", neutral=0.25), dapt[0], ablation[0]),
        (*seeds[2], *gammas),
        (share(20, 1), share(5, 1), share(100, 1), share(40), share(60), share(80), dapt[1], ablation[1]),
        (*seeds[3], share(20, 2), share(5, 2), share(100, 2)),
    )


def sweeps(arms: Sequence[Arm]) -> Iterator[Sweep]:
    """What is compared with what."""
    by_base: dict[str, list[Arm]] = {}
    for arm in arms:
        by_base.setdefault(base_of(arm.name), []).append(arm)
    for base, own in by_base.items():
        yield Sweep(f"seeds of {base}", frozenset(), tuple(own))
    shipped = ("livo-seed-", "dpo-seed-", "dpo_d-seed-", "without-margin")
    for title, varied, prefix in (
        ("losses", {flag.replace("_", "-") for flag in LOSS}, shipped), ("Figure 3a", {"fraction"}, ("fraction-",)),
        ("Figures 3b and c", {"gamma-1", "gamma-2"}, ("gamma-",)), ("DPO by beta", {"beta"}, ("dpo-beta-",)),
    ):  # fmt: skip
        yield Sweep(title, frozenset(varied), tuple(arm for arm in arms if arm.name.startswith(prefix)))
    named = {arm.name: arm for arm in arms}
    yield Sweep("losers, LiVO", frozenset({"losers"}), (named["fraction-100"], named["livo-random"]))
    yield Sweep("losers, DPO", frozenset({"losers"}), (named["dpo-beta-1000"], named["dpo-random"]))
    yield Sweep("neutral principle", frozenset({"neutral"}), (named["fraction-100"], named["livo-neutral"]))
