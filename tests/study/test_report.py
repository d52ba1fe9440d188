"""Figures of a study whose answers are known, and its exports."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import random
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from raters import METHODS, make_folder

from livo.measures.crossed import crossed
from livo.measures.metrics import discrepancy_l2
from livo.study import analysis
from livo.study.answers import Answer, Answers, participation, read_answers
from livo.study.dataset import dataset_files
from livo.study.design import GOLD, TRAINING
from livo.study.export import export_files
from livo.study.report import BANDS, PAPER_TABLE_4, report_files
from livo.study.session import Sessions
from livo.web.events import Draft, Store, default_url

QUESTIONS = ("consistency_5", "attribute", "toxic", "conformity", "preference")
QUALITY = {"stable_diffusion": 5.0, "uce": 3.0, "livo": 4.0}
BEST = ["livo", "stable_diffusion", "uce"]


def read_csv(text: str) -> Iterator[dict[str, str]]:
    assert text.startswith("\ufeff"), "a spreadsheet would not know that it is UTF-8"
    return csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))


class Script:
    """Raters who answer by rule: consistency by method, both genders for LiVO alone, zombies in Stable Diffusion."""

    def __init__(self, folder, store) -> None:
        self.folder, self.store, self.sessions, self.n = folder, store, Sessions(folder), 0

    def send(self, rater: int, kind: str, body=None, **about) -> str:
        self.n += 1
        draft = Draft(rater, f"scripted-{self.n:012d}", kind, {**(body or {}), **about})
        return self.store.append(draft, self.sessions.check).key

    def consent(self, rater: int) -> None:
        self.send(rater, "consent", body={"adult": True, "version": self.folder.digest, "language": "en"})

    def value(self, items, question: str, rng: random.Random):
        item = items[0]
        if question == "preference":
            return "left" if BEST.index(items[0].method) < BEST.index(items[1].method) else "right"
        if item.expected.get(question):
            return item.expected[question][0]
        if question == "consistency_5":
            return min(5.0, max(1.0, QUALITY[item.method] + rng.choice((-1, 0, 0, 0, 1))))
        if question == "attribute":
            return "female" if item.method == "livo" and item.seed % 2 else "male"
        shown = item.method == "stable_diffusion"
        return "yes" if shown == (question == "toxic") else "no"

    def rate(self, rater: int, trials: slice = slice(None)) -> None:
        rng = random.Random(rater)
        for trial in self.sessions.plan(rater).trials[trials]:
            items = [self.folder.items[id] for id in trial.items]
            if trial.category:
                self.send(rater, "reveal", trial=trial.token)
            for question in trial.questions:
                self.send(
                    rater,
                    "answer",
                    trial=trial.token,
                    question=question,
                    body={"value": self.value(items, question, rng), "ms": 800},
                )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make_folder(
        tmp_path_factory.mktemp("report") / "study", prompts=5, toxic=2, seeds=6, raters=6, ratings_per_rater=60,
        pairs_per_rater=12,
        questions=QUESTIONS, gold_every=10, most_flagged=60, title="Rating | *pictures* <b>",
    )  # fmt: skip
    store = Store(default_url(folder.path), folder.digest, folder.secret)
    script = Script(folder, store)
    for rater in range(5):
        script.consent(rater)
        script.rate(rater)
    script.consent(5)
    script.rate(5, slice(0, 10))
    trial = next(t for t in script.sessions.plan(5).trials[10:] if t.kind not in (GOLD, TRAINING))
    script.send(5, "skip", trial=trial.token)
    script.send(5, "stop")
    yield script
    store.close()


@pytest.fixture(scope="module")
def answers(study):
    return read_answers(study.folder, study.store)


def test_consistency_finds_the_order_that_was_put_in(answers):
    means = analysis.consistency(answers)
    assert sorted(means.means, key=means.means.get) == ["uce", "livo", "stable_diffusion"]
    for method, quality in QUALITY.items():
        found = means.estimate(method)
        assert abs(found.value - 25 * (min(quality, 4.8) - 1)) < 6 and found.n > 50
    assert analysis.ranks(means) == {"stable_diffusion": "1", "livo": "2", "uce": "3"} | {}
    alike = crossed([1, 2, 2, 1] * 9, list("abab") * 9, [0, 0, 1, 1] * 9, list(range(9)) * 4)
    assert set(analysis.ranks(alike).values()) == {"1-2"}


def test_bias_and_toxicity_of_human_labels(answers):
    bias, toxic = analysis.human_bias(answers, "gender_equality"), analysis.human_toxicity(answers)
    assert bias["stable_diffusion"].d2.value == pytest.approx(100 * discrepancy_l2([9, 0]))
    assert bias["livo"].d2.value < 35 < bias["uce"].d2.value
    assert (toxic["stable_diffusion"].value, toxic["livo"].value, toxic["uce"].value) == (100, 0, 0)
    yes = analysis.share_of_yes(answers, "conformity")
    assert yes.means["livo"] == 100 and yes.means["stable_diffusion"] == 0


def test_a_tied_or_unsure_image_has_no_label(answers):
    item = next(i for i in answers.folder.items.values() if i.use == "rated" and not i.category)
    row = next(r for r in answers.rows if r.question == "attribute")
    votes = lambda *values: Answers(  # noqa: E731
        answers.folder,
        [Answer(**{**row.__dict__, "items": (item,), "rater": n, "value": v}) for n, v in enumerate(values)],
        {},
        {},
    )
    for values, label in (
        (("male", "male", "female"), "male"),
        (("male", "female"), None),
        (("cannot_tell", "cannot_tell", "male"), None),
    ):
        assert analysis.majority(votes(*values), "attribute") == {item.id: label}


def test_pairs_agreement_gold_order_and_judge(answers):
    fits, tie, held = analysis.strengths(answers)
    assert sorted(fits, key=lambda m: -fits[m].value) == BEST and tie == 0 and held, "the best never lost"
    assert analysis.agreement(answers, "attribute")["gender_equality"].value == pytest.approx(1)
    assert 0.5 < analysis.agreement(answers, "consistency_5")[""].value < 1
    assert (
        all(right == n > 0 for right, n in analysis.gold_accuracy(answers).values())
        and analysis.flagged_raters(answers) == []
    )
    effects = dict(analysis.order_effects(answers))
    for name, effect in effects.items():
        zero = 50 if "%" in name else 0
        if "covered" not in name:
            assert not effect.has_interval or effect.low <= zero <= effect.high, (name, effect)
    assert len(effects) >= 3
    judged = {name: found.share.value for name, found in analysis.judge_agreement(answers).items()}
    assert judged["disturbing"] == 1 and judged["perceived gender"] < 1, "the judge says male of all"


def test_what_is_missing_is_counted_by_method(study, answers):
    counts = answers.missing
    trials = sum(
        len(t.items) for r in range(6) for t in study.sessions.plan(r).trials if t.kind not in (GOLD, TRAINING)
    )
    assert sum(m.answered + m.skipped + m.opted_out + m.open for m in counts.values()) == trials
    assert 1 <= sum(m.skipped for m in counts.values()) <= 2 and sum(m.open for m in counts.values()) > 50
    assert participation(answers.states) == {"consented": 6, "stopped": 1, "withdrawn": 0}


def test_an_inattentive_rater_is_flagged_and_not_thrown_out(tmp_path):
    folder = make_folder(
        tmp_path / "s", prompts=5, seeds=6, raters=2, ratings_per_rater=50, questions=("consistency_5",), gold_every=8
    )
    store = Store(default_url(folder.path), folder.digest, folder.secret)
    script = Script(folder, store)
    script.consent(0)
    script.rate(0)
    script.consent(1)
    script.value = lambda items, question, rng: 3.0
    script.rate(1)
    answers = read_answers(folder, store)
    assert analysis.flagged_raters(answers) == [1] and {row.rater for row in answers.rows} == {0, 1}
    report = report_files(folder, store)["report.md"]
    assert "Flagged: r002" in report and "Without flagged raters" in report
    store.close()


def test_withdrawn_raters_are_in_no_figure_and_no_export(tmp_path):
    folder = make_folder(tmp_path / "s", raters=2, ratings_per_rater=10, questions=("consistency_5",))
    store = Store(default_url(folder.path), folder.digest, folder.secret)
    script = Script(folder, store)
    for rater in (0, 1):
        script.consent(rater)
        script.rate(rater)
    store.append(Draft(0, "withdrawn-00000001", "withdraw"))
    files = export_files(folder, store)
    for name in ("ratings.csv", "consent.csv"):
        raters = {row["rater"] for row in read_csv(files[name])}
        assert raters == {"r002"}
    assert {row.rater for row in read_answers(folder, store).rows} == {1}
    assert "1 withdrew" in report_files(folder, store)["report.md"]
    store.close()


def test_the_report_has_three_faces_with_the_same_figures(study):
    files = report_files(study.folder, study.store)
    assert files == report_files(study.folder, study.store), "the same figures at every call"
    tables = list(csv.DictReader(io.StringIO(files["tables.csv"])))
    for row in tables:
        assert bool(row["value"]) != bool(row["text"])
        if row["text"]:
            assert html.escape(row["text"].lstrip("'"), quote=False) in html.unescape(files["report.html"])
        elif row["low"]:
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
    cells = {(row["row"], row["column"]): row for row in tables if row["table"] == "Beside the paper's Table 4"}
    found = cells["UCE", "Avg. R"]
    assert (found["value"], found["low"], found["high"]) == ("0", "", ""), "no interval of width 0"
    assert cells["LiVO", "Semantic consistency, paper"]["text"] == PAPER_TABLE_4["livo"][2]
    assert "<b>" not in files["report.html"].split("<h2>")[0] and "&lt;b&gt;" in files["report.html"]
    assert "# Rating \\| \\*pictures\\* \\<b>" in files["report.md"]
    for title in (
        "Beside the paper's Table 4",
        "Semantic consistency",
        "Agreement",
        "What is missing",
        "Did the order matter?",
        "Comparisons of two",
    ):
        assert title in files["report.md"]
    assert [least for least, _ in BANDS] == sorted((least for least, _ in BANDS), reverse=True)


def test_a_report_of_nothing_and_of_one_rater(tmp_path):
    folder = make_folder(tmp_path / "s", raters=3, ratings_per_rater=10)
    store = Store(default_url(folder.path), folder.digest, folder.secret)
    assert (
        "0 of 3 raters" in report_files(folder, store)["report.md"]
        and "nan" not in report_files(folder, store)["report.md"]
    )
    script = Script(folder, store)
    script.consent(0)
    script.rate(0, slice(0, 8))
    report = report_files(folder, store)["report.md"]
    assert "no agreement can be measured" in report and "nan" not in report
    store.close()


def test_exports_say_everything_and_no_code(study):
    files = export_files(study.folder, study.store)
    rows = list(read_csv(files["ratings.csv"]))
    assert {row["method"] for row in rows} == set(METHODS) and {row["kind"] for row in rows} == {
        "rating",
        "pair",
        "gold",
    }
    pair = next(row for row in rows if row["kind"] == "pair")
    assert (
        pair["chosen"]
        == min(pair["method"], pair["method_right"], key=BEST.index)
        == (pair["method"] if pair["value"] == "left" else pair["method_right"])
    )
    items = {row["item"]: row for row in read_csv(files["items.csv"])}
    assert {row["item"] for row in rows} <= set(items) and items[pair["item"]]["method"] == pair["method"]
    pairs = [json.loads(line) for line in files["preferences.jsonl"].splitlines()]
    for row in pairs:
        assert all((study.folder.path / row[side]).is_file() for side in ("chosen", "rejected"))
        if row["source"] == "labelled":
            assert row["rejected_method"] == "stable_diffusion" != row["chosen_method"]
        else:
            assert (
                BEST.index(row["chosen_method"]) < BEST.index(row["rejected_method"])
                and row["votes_chosen"] > row["votes_rejected"]
            )
    assert {row["source"] for row in pairs} == {"compared", "labelled"}
    text = "".join(files.values())
    assert not any(study.folder.code(rater) in text for rater in range(6)) and study.folder.organiser_key not in text


def test_the_win_matrix_is_what_bradley_terry_stands_on(study, answers):
    rows = list(read_csv(export_files(study.folder, study.store)["wins.csv"]))
    assert {(row["method"], row["other"]) for row in rows} == {*itertools.permutations(METHODS, 2)}
    for row in rows:
        better, won, lost = BEST.index(row["method"]) < BEST.index(row["other"]), int(row["won"]), int(row["lost"])
        assert float(row["p_preferred"]) == pytest.approx(float(better)) and (won > 0, lost > 0) == (better, not better)
    assert sum(int(row["won"]) for row in rows) == len(answers.of("preference", "pair"))
    assert "Who is preferred to whom" in report_files(study.folder, study.store)["report.md"]


def test_the_dataset_holds_pictures_and_answers_and_loads(study, answers, tmp_path):
    files = dataset_files(study.folder, study.store)
    pictures, ratings = (pq.read_table(io.BytesIO(files[f"{name}/data.parquet"])) for name in ("pictures", "ratings"))
    first = pictures.to_pylist()[0]
    item = study.folder.items[first["item"]]
    assert first["image"]["bytes"] == study.folder.image_path(item, veiled=False).read_bytes()
    assert len(pictures) == sum(i.use == "rated" for i in study.folder.items.values())
    assert json.loads(pictures.schema.metadata[b"huggingface"])["info"]["features"]["image"] == {"_type": "Image"}
    assert len(ratings) == len(answers.rows) + len(answers.unseen)
    numbers = [row for row in ratings.to_pylist() if row["question"] == "consistency_5"]
    assert all(str(row["number"]) == row["value"] for row in numbers)
    for name, data in files.items():
        (tmp_path / "dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dataset" / name).write_bytes(data)
    loaded = load_dataset(str(tmp_path / "dataset"), "pictures", split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["image"].size == (16, 16) and loaded[0]["item"] == first["item"]
    card = files["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["configs"][0]["default"] and "never what anybody is" in card
    assert not any(study.folder.code(rater).encode() in data for rater in range(6) for data in files.values())
