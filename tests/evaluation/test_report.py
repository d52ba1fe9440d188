"""The command: what it prints, writes and refuses; and that the README says what the committed results say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from evaluated import MAIN, save, synthetic
from test_cli import fails_in_one_line

from livo.__main__ import main
from livo.evaluation import report
from livo.evaluation.report import COMMITTED, check, fill_markers
from livo.evaluation.results import read_all
from livo.evaluation.run_card import run_card
from livo.evaluation.store import RESULTS, read_results
from livo.evaluation.tables import table_2
from livo.types import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save(synthetic(MAIN), tmp_path_factory.mktemp("results") / "main")


def test_a_results_file_is_read_as_it_was_written(saved):
    columns, header = read_results(saved)
    want = synthetic(MAIN)
    assert header == want.header
    assert (columns["gender"] == want._columns["gender"]).all() and columns["score"] == pytest.approx(
        want._columns["score"]
    )
    assert columns["features"].shape == want._columns["features"].shape


WHAT = [
    "--table 1",
    "--table 2",
    "--table 3",
    "--figure 3b",
    "--figure 3c",
    "--report claims",
    "--report controls",
    "--report card",
]


@pytest.mark.parametrize("what", [arguments.split() for arguments in WHAT])
def test_tables_figures_and_reports_are_markdown(what, saved, capsys):
    assert main(["evaluate", *what, "--results", str(saved)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("**") and "| " in shown and "nan" not in shown.lower().replace("finance", "")


def test_saved_as_markdown_csv_and_svg(saved, tmp_path, capsys):
    assert main(["evaluate", "--figure", "3b", "--results", str(saved.parent), "--save", str(tmp_path / "out")]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"figure-3b.csv", "figure-3b.md", "figure-3b.svg"}
    assert (tmp_path / "out" / "figure-3b.svg").read_text().startswith("<svg")


def test_markers_are_filled_and_nothing_else_changes(saved, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- evaluate table 3 -->\nold\n<!-- end -->\n<!-- evaluate control details -->\n<!-- end -->\nafter\n"
    )
    assert main(["evaluate", "--readme", str(page), "--results", str(saved)]) == 0
    text = page.read_text()
    assert (
        text.startswith("before\n")
        and text.endswith("<!-- end -->\nafter\n")
        and "old" not in text
        and "LiVO w/o v" in text
    )
    files = read_all([saved])
    assert fill_markers(text, files) == text
    assert fill_markers(re.sub(r"\d\d\.\d", "99.9", text), files) == text, "a figure changed by hand is found"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--table", "2", "--results", "no/such"], "there are no results in"),
        (["--figure", "3a"], "fraction-5"),
        (["--figure", "4"], "livo-at-300"),
        (["--figure", "5"], "kept"),
        (["--readme", "no.md"], "cannot be read"),
    ],
)
def test_what_is_missing_is_one_line_with_the_way_out(arguments, says, saved, capsys):
    given = arguments if "--results" in arguments else [*arguments, "--results", str(saved)]
    assert says in fails_in_one_line(capsys, "evaluate", *given)


def test_a_broken_results_file_is_one_line(tmp_path, capsys):
    (tmp_path / RESULTS).write_bytes(b"PAR1 nonsense")
    assert "is no results file" in fails_in_one_line(capsys, "evaluate", "--table", "2", "--results", str(tmp_path))
    (tmp_path / "empty").mkdir()
    assert "evaluate --out" in fails_in_one_line(
        capsys, "evaluate", "--table", "2", "--results", str(tmp_path / "empty")
    )


def test_a_page_without_markers_is_told_what_they_are(saved, tmp_path, capsys):
    (tmp_path / "x.md").write_text("nothing here")
    assert "no markers" in fails_in_one_line(
        capsys, "evaluate", "--readme", str(tmp_path / "x.md"), "--results", str(saved)
    )
    (tmp_path / "z.md").write_text("<!-- evaluate control nothing -->\n<!-- end -->")
    assert "there are: value-on-off" in fails_in_one_line(
        capsys, "evaluate", "--readme", str(tmp_path / "z.md"), "--results", str(saved)
    )
    (tmp_path / "y.md").write_text("<!-- evaluate table 9 -->\n<!-- end -->")
    assert "nothing called 'table 9'" in fails_in_one_line(
        capsys, "evaluate", "--readme", str(tmp_path / "y.md"), "--results", str(saved)
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--parts", "bais"], "no part 'bais'"),
        (["--methods", "stabel"], "no method 'stabel'"),
        (["--methods", "livo"], "against stable_diffusion"),
        (["--value-encoders", "x"], "NAME=FOLDER"),
        (["--value-encoders", "x=no/folder"], "no value encoder"),
        (["--threads", "0"], "give 1 or more"),
        (["--steps", "0"], "cannot be run"),
        (["--backbone", "no/such/folder"], "no backbone folder"),
        (["--save", "x"], "give one of them"),
        (["--judge", "clippy"], "no judge 'clippy'; there are: evaluator, open_clip"),
        (["--judge", "none"], "needs one judge with features of images"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, says, tmp_path, capsys):
    assert main(["evaluate", "--dry-run", *arguments, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()  # loading bars of the libraries may stand before it: here they are imported already
    last = captured.err.strip().splitlines()[-1]
    assert captured.out == "" and last.startswith("livo: ") and says in last and "Traceback" not in captured.err


def test_a_dry_run_counts_and_makes_nothing(tmp_path, capsys):
    assert main(["evaluate", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    counts = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in shown.splitlines()}
    assert counts["all"] == sum(n for name, n in counts.items() if name != "all") > 25_000
    assert not list((tmp_path / "out").glob("**/*.parquet"))


def test_the_command_line_parses_without_torch():
    code = (
        "import sys; from livo.__main__ import build_parser; "
        "build_parser('evaluate').parse_args(['evaluate', '--quick']); print({'torch', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


# --- what is committed -----------------------------------------------------------------------------------------------


def test_what_is_committed_is_what_the_committed_results_give(tmp_path, monkeypatch):
    files = read_all([COMMITTED])
    assert "are those of the results" in check(files), "run `python -m livo evaluate --readme assets/results/README.md`"
    changed = shutil.copytree(COMMITTED, tmp_path / "results", ignore=shutil.ignore_patterns("*.parquet", "*.webp"))
    page = changed / "README.md"
    tables = [match[0] for match in report.MARKER.finditer(page.read_text(encoding="utf-8"))]
    page.write_text("\n".join(tables[:3]).replace("| bias | career | 44 |", "| bias | career | 45 |"))
    monkeypatch.setattr(report, "DRAWN", ())  # three tables and the case study tell; all were made just now
    with pytest.raises(InputError, match=r"1 of \d+ parts differ from the results: table 1: the README has .*45"):
        check(files, changed)


def test_committed_results_are_small_and_check_themselves():
    assert sum(p.stat().st_size for p in COMMITTED.glob(f"*/{RESULTS}")) < 3_000_000
    bias = table_2(read_all([COMMITTED / "main"])[0])[0]
    for row in bias.rows:
        if row[1].estimate and "w/ R" not in row[0].text:
            assert row[2].estimate.value == pytest.approx(row[1].estimate.value / 2**0.5), row[0].text


def test_the_card_counts_every_image_and_names_every_weight(saved):
    results = read_all([saved])
    parts, weights, surroundings = run_card(results)
    assert sum(int(row[3].text.replace(",", "")) for row in parts.rows) == results[0].image_count()
    assert [row[4].text for row in parts.rows] == [
        f"{info.first_seed:,} to {info.first_seed + info.images - 1:,}" for info in results[0].header.parts.values()
    ]
    named = {row[1].text for row in weights.rows}
    header = results[0].header
    assert {m.weights for m in header.methods.values() if m.weights} | set(header.weights.values()) == named
    assert [row[0].text for row in surroundings.rows] == ["main"]
