"""Several trainings: the mean of them, intervals for new seeds, and what may be compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluated import MAIN, synthetic

from livo.evaluation.claim_rules import Compared, to_settle, wanted
from livo.evaluation.claims import check_claims, claims_table
from livo.evaluation.controls import pooled_discrepancy
from livo.evaluation.figures import figure_3a, figure_4, shares_of
from livo.evaluation.header import MethodInfo
from livo.evaluation.results import Results
from livo.evaluation.tables import CONFORMITY, table_1, table_2
from livo.evaluation.training_tables import margins_table, trainings_table
from livo.evaluation.trainings import Trainings, differing
from livo.measures.bootstrap import student, two_level
from livo.measures.estimates import Estimate
from livo.miniature.world import load_world
from livo.types import InputError

ABOVE = {"female": 0.5, "light": 0.4}


def trained(results: Results, **training: dict) -> Results:
    """The same, each method with what its file says of its training; '_' in a name for '-'."""
    methods = {
        id: replace(info, training=training.get(id.replace("-", "_"), info.training))
        for id, info in results.header.methods.items()
    }
    return Results(results._columns, replace(results.header, methods=methods))


@pytest.fixture(scope="module")
def main() -> Results:
    return synthetic(MAIN)


# --- two levels ---


def test_the_variance_is_that_of_seeds_and_prompts_in_closed_form():
    s, n, seed, prompt, both = 4, 20, 0.4, 0.5, 0.3
    found = []
    for k in range(300):
        rng = np.random.default_rng(k)
        values = rng.normal(0, prompt, n) + rng.normal(0, seed, (s, 1)) + rng.normal(0, both, (s, n))
        d = two_level(values, np.zeros((1, n)), list(range(n)))
        df = 1 / ((1 - d.share) ** 2 / (n - 1) + d.share**2 / (s - 1))
        found.append(((d.estimate.high - d.estimate.low) / 2 / student(df)) ** 2)
    truth = seed**2 / s + prompt**2 / n + 2 * both**2 / (s * n)  # what both do together is counted at both levels
    assert np.mean(found) == pytest.approx(truth, rel=0.1)


def test_a_method_is_the_mean_of_its_trainings_on_their_prompts(main):
    further = synthetic({"livo-seed-1": MAIN["livo"], "livo-seed-2": ABOVE, "dpo-beta-250": {}}, bias=6, seed=3)
    e = Trainings(main, further)
    (_, of), _ = CONFORMITY
    assert [method for _, method, _ in e.trainings("livo")] == ["livo", "livo-seed-1", "livo-seed-2"]
    several, alone = e.difference(of, "livo", "uce"), Trainings(main).difference(of, "livo", "uce")
    means = [np.mean(of(*side)) for side in e.trainings("livo")]
    assert several.estimate.value == pytest.approx(np.mean(means) - np.mean(of(main.only(further), "uce")))
    assert several.trainings == 3 and several.share > 0.3 and alone.share == 0
    width = several.estimate.high - several.estimate.low
    assert width > 1.5 * (alone.estimate.high - alone.estimate.low)
    assert e.difference(of, "uce", "dapt") == Trainings(main).difference(of, "uce", "dapt"), "on all prompts"
    note = claims_table(check_claims(main, further), e.note()).note
    assert "livo 3" in note and "new seeds" in note
    rows = {row[0].text: row for row in trainings_table(main, further).rows}
    assert rows["LiVO"][1].text == "3" and rows["Fair Diffusion"][5].text == "-" and rows["dpo-beta-250"][1].text == "1"


def test_convergence_is_paired_by_seed():
    runs = {
        f"{who}-at-{step}{seed}": ({} if who == "dpo" and step == 100 else ABOVE | {"toxic": 0.0})
        for who in ("livo", "dpo") for step in (100, 200) for seed in ("", "-seed-1")
    }  # fmt: skip
    further = synthetic(runs, toxic=6, seed=2)
    (claim,) = (c for c in check_claims(synthetic(MAIN, toxic=6), further) if c.source == "Fig. 4")
    assert "2 trainings each" in claim.found and claim.verdict == "reproduced"
    assert [p.x for p in figure_4(further)[0].series[0].points] == [0, 100, 200]


# --- what may be compared ---

OLD = {"command": "python -m train.value_encoder --fraction 0.2 --num-draws 4 --seed 3"}
SETTINGS = {"loss": "livo_loss", "fraction": 1.0, "num_draws": 1, "seed": 0}


def test_trainings_differ_in_settings_and_old_ones_in_their_commands():
    def infos(*trainings):
        return [MethodInfo("x", (), True, training=training) for training in trainings]

    assert differing(infos(OLD, {"command": "python -m train.value_encoder"})) == {"fraction", "num_draws"}
    assert differing(infos({"settings": SETTINGS}, {"settings": SETTINGS | {"seed": 4}})) == set()
    assert differing(infos({"settings": SETTINGS}, {"settings": SETTINGS | {"num_draws": 4}})) == {"num_draws"}
    assert differing(infos(None, {"settings": SETTINGS})) == set(), "nothing is known"


def test_shares_that_differ_in_more_are_not_compared(main):
    whole = {"settings": SETTINGS}
    fifth, wrong = (
        {"settings": SETTINGS | {"fraction": 0.2}},
        {"settings": SETTINGS | {"fraction": 0.2, "num_draws": 4}},
    )
    further = synthetic(dict.fromkeys(("fraction-20", "fraction-100"), MAIN["livo"]), seed=1)
    fair = trained(further, fraction_20=fifth, fraction_100=whole)
    unfair = trained(further, fraction_20=wrong, fraction_100=whole)
    assert list(shares_of(fair)[0]) == ["20", "100"] and not shares_of(fair)[1]
    assert list(shares_of(unfair)[0]) == ["100"]
    assert "fraction-20 (num_draws)" in figure_3a(main, unfair)[0].note
    (claim,) = (c for c in check_claims(main, unfair) if c.text.startswith("20 %"))
    assert claim.verdict == "not tested" and "num_draws" in claim.found
    others = trained(main, livo={"settings": SETTINGS | {"num_draws": 9}})
    again = trained(synthetic({"livo-seed-1": {}}, seed=1), livo_seed_1=whole)
    assert len(Trainings(others, again).trainings("livo")) == 1, "no further training of the shipped one"


# --- what would settle it ---


def test_more_prompts_or_more_trainings_are_asked_for_where_they_help():
    prompts = Compared(Estimate(0.02, -0.06, 0.1, 20), "", share=0.1, trainings=4)
    seeds = replace(prompts, share=0.9)
    assert wanted(prompts, 0.04)[0] > 20 and wanted(prompts, 0.04)[1] == 4
    assert wanted(seeds, 0.04)[0] == 20 and wanted(seeds, 0.04)[1] > 4
    assert all(n > have for n, have in zip(wanted(replace(prompts, share=0.5), 0.02), (20, 4), strict=True))
    assert "trainings each" in to_settle([(seeds, 0.04)]) and "subjects" in to_settle([(prompts, 0.04)])


def test_every_open_claim_says_what_would_settle_it(main):
    close = synthetic(MAIN | {"dpo": MAIN["livo"] | {"shift": 0.1}, "uce": {"female": 0.4, "light": 0.3, "toxic": 0.1}})
    for claim in (*check_claims(main), *check_claims(close)):
        assert claim.verdict != "unresolved" or "would settle it" in claim.found, claim.text


# --- the margins' rule ---


def test_margins_are_chosen_by_the_rule():
    paper = {"female": 0.7, "light": 0.3, "toxic": 0.3}
    better, drifted = (
        {"female": 0.6, "light": 0.2, "toxic": 0.0},
        {"female": 0.5, "light": 0.2, "toxic": 0.0, "shift": 5.0},
    )
    grid = {"gamma-1.0-0.5": paper, "gamma-2.0-1.0": better, "gamma-2.0-2.0": drifted}

    def chosen(grid):
        return [row[0].text for row in margins_table(synthetic(grid, n=60, toxic=6)).rows if row[0].best]

    assert chosen(grid) == ["2.0, 1.0"], "the last is out: its pictures drifted away"
    assert chosen(grid | {"gamma-2.0-1.0": paper}) == ["1.0, 0.5"], "no better beyond noise"
    assert chosen(grid | {"gamma-2.0-1.0": better | {"kept": 0.7}}) == ["1.0, 0.5"]
    with pytest.raises(InputError, match=r"gamma-1\.0-0\.5"):
        margins_table(synthetic({"gamma-2.0-1.0": better}))


# --- tables ---


def test_pooled_shares_let_opposite_biases_cancel():
    one = synthetic({"livo": {"female": 0.0}}, bias=6)
    rows = np.arange(len(one._columns["gender"]))
    flipped = {**one._columns, "gender": np.where(one._columns["item"] % 2 == 1, 1, 0)[rows]}
    found = pooled_discrepancy(Results(flipped, one.header), "stable_diffusion", "gender_equality", "D1")
    assert found.value == pytest.approx(0) and pooled_discrepancy(
        one, "stable_diffusion", "gender_equality", "D1"
    ).value == pytest.approx(0.8, abs=0.15)


def test_table_2_has_the_retrievers_quality_and_table_1_the_samples(main):
    for table in table_2(main):
        row = next(row for row in table.rows if "w/ R" in row[0].text)
        quality = dict(zip(table.head, row, strict=True))
        assert all(quality[name].text != "-" for name in table.head if name[:4] in ("IS ↑", "FID", "CLIP", "kept"))
    told = trained(main, livo={"samples": {"career": 40, "nudity": 7}})
    rows = {row[1].text: row for row in table_1(told, load_world()).rows}
    assert rows["career"][4].text == "40" and rows["nudity"][4].text == "7" and rows[""][4].text == "47"
