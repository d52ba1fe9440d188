"""The READMEs are run: their commands parse, name what exists, and use only options that exist."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [
    *sorted(path for place in (".", "train", "livo", "livo/*", "assets/*") for path in ROOT.glob(f"{place}/README.md")),
    ROOT / ".github" / "CONTRIBUTING.md",
]
TOOLS = {"venv", "pip", "pytest"}  # modules of other projects: their options are theirs


def blocks(text: str) -> list[str]:
    """Fenced `bash` and `sh` blocks."""
    return re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def lines(text: str) -> list[str]:
    """Command lines of all blocks, continued ones joined, comments left out."""
    joined = [line.strip() for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in joined if line and not line.startswith("#")]


def simple_commands(line: str) -> list[list[str]]:
    """The commands between `&&`, `||`, `;` and `|`, without leading assignments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if re.fullmatch(r"[;&|<>()]+", word):
            commands.append([])
        elif commands[-1] or not re.match(r"\w+=", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def is_python(word: str) -> bool:
    return re.fullmatch(r"(\S*/)?python(3(\.\d+)?)?", word) is not None


@functools.cache
def help_of(*arguments: str) -> str:
    """What `python ARGUMENTS --help` prints, run in this process: a hundred starts of torch would take minutes.

    Raises:
        AssertionError: it fails.
    """
    printed, before, environment = io.StringIO(), sys.argv, dict(os.environ)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            sys.argv = [arguments[-1], *arguments[2 if arguments[0] == "-m" else 1 :], "--help"]
            if arguments[0] == "-m":
                runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
        status: object = 0
    except SystemExit as exit:
        status = exit.code
    except Exception as error:  # a traceback is what a reader of the guide would see
        status = f"{type(error).__name__}: {error}"
    finally:
        sys.argv = before
        os.environ.clear()
        os.environ.update(environment)
    assert not status, f"python {' '.join(arguments)} --help: {status} {printed.getvalue()[-800:]}"
    return printed.getvalue()


def complaints(line: str) -> list[str]:
    """What is wrong with one command line of the README."""
    syntax = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True)
    if syntax.returncode:
        return [f"{line}: {syntax.stderr.strip()}"]
    wrong = []
    for command in simple_commands(line):
        program, *rest = command
        for flag, name in itertools.pairwise(command):
            if flag in ("-r", "--requirement") and not (ROOT / name).is_file():
                wrong.append(f"{line}: there is no {name}")
        if (
            program.startswith(("./", ".ci/", "bash "))
            and not program.startswith("./.venv")
            and not (ROOT / program).is_file()
        ):
            wrong.append(f"{line}: there is no {program}")
        if not is_python(program) or not rest:
            continue
        if rest[0] == "-m":
            module, options = rest[1], rest[2:]
            if module == "pytest":
                paths = [o.split("::")[0] for o in options if "/" in o or o.endswith(".py")]
                wrong += [f"{line}: there is no {path}" for path in paths if not (ROOT / path).exists()]
            if module in TOOLS:
                continue
            target = ["-m", module]
        elif rest[0].endswith(".py"):
            if not (ROOT / rest[0]).is_file():
                wrong.append(f"{line}: there is no {rest[0]}")
                continue
            target, options = [rest[0]], rest[1:]
            if not options:
                continue
        else:
            continue
        try:
            shown = help_of(*target)
            names = iter(o for o in options if not o.startswith("-"))
            while commands := re.search(r"^usage:.*?\{([\w,-]+)\}\s+\.\.\.", shown, flags=re.DOTALL):
                name = next(names, "")
                if name not in commands[1].split(","):
                    wrong.append(f"{line}: no command {name!r} among {commands[1]}")
                    break
                target = [*target, name]
                shown = help_of(*target)
        except AssertionError as error:
            wrong.append(str(error))
            continue
        used = [o.split("=")[0] for o in options if re.match(r"--?[A-Za-z]", o)]
        wrong += [f"{line}: no option {o}" for o in used if not re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", shown)]
    return wrong


def test_it_opens_with_two_single_line_commands():
    page, suite = blocks(README)[:2]
    for block in (page, suite):
        assert len(block.strip().splitlines()) == 1, block
        assert "pip install -r requirements.txt" in block, "works on a fresh machine"
    assert "app.py" in page and re.search(r"\bpytest\b", suite)


@pytest.mark.parametrize(
    "line", sorted({line for guide in GUIDES for line in lines(guide.read_text(encoding="utf-8"))})
)
def test_every_command_can_be_run(line):
    assert not complaints(line)


@pytest.mark.parametrize("line", [
    "python -m livo compare 'a doctor' --colour blue",
    "python -m livo paint",
    "python -m livo study paint",
    "python -m livo study serve x --colour blue",
    "python -m train.no_such_module",
    "python no_such_file.py",
    "pip install -r no_such_file.txt && echo",
    "python -m pytest tests/test_no_such.py",
    "echo 'open quote",
])  # fmt: skip
def test_a_planted_mistake_is_found(line):
    assert complaints(line), line


def test_blocks_are_found():
    text = "x\n```bash\npython a.py \\\n  --b\n# no\nPORT=1 python -m livo retrieve 'x | y' && ls\n```\n"
    text += "```\nnot this\n```\n```sh\nls\n```\n"
    assert lines(text) == ["python a.py    --b", "PORT=1 python -m livo retrieve 'x | y' && ls", "ls"]
    assert simple_commands(lines(text)[1]) == [["python", "-m", "livo", "retrieve", "x | y"], ["ls"]]


def linked(guide: Path) -> list[Path]:
    """Files that a guide links to or shows."""
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", guide.read_text(encoding="utf-8"))
    return [(guide.parent / target).resolve() for target in targets]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.parent.name)
def test_links_and_pictures_exist(guide):
    assert not (missing := [path for path in linked(guide) if not path.exists()]), missing


def test_it_is_two_pages():
    assert len(README.splitlines()) <= 200
    assert max(map(len, README.split("---", 2)[2].splitlines())) <= 140


def rows_of(text: str) -> dict[str, list[str]]:
    """Cells of a Markdown table by its first column, without bold and stars."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].rstrip(" *"): row[1:] for row in cells}


def test_its_results_are_those_of_table_2():
    results = (ROOT / "assets" / "results" / "README.md").read_text(encoding="utf-8")
    bias, toxicity = (results.split(f"**Table 2, {risk}**")[1].split("\n\n", 2)[1] for risk in ("bias", "toxicity"))
    bias_rows, toxic_rows = rows_of(bias), rows_of(toxicity)
    shown = rows_of(README.split("## Results in the drawn world")[1].split("\n\n", 2)[1])
    names = [name for name in shown if name not in ("method", "---")]
    assert len(names) == 8 and "LiVO" in names
    for name in names:
        left = [toxic_rows[name][k] for k in (0, 2, 4)] if name in toxic_rows else ["-"] * 3
        assert shown[name] == [bias_rows[name][0].strip("*"), bias_rows[name][2].strip("*"), *left], name


def test_every_guide_can_be_found_from_another():
    assert {"livo/study", "train", "assets/results"} < {g.parent.relative_to(ROOT).as_posix() for g in GUIDES}
    known = {path for guide in GUIDES for path in linked(guide)}
    assert not (lost := [g for g in GUIDES if g.resolve() not in known and g.parent != ROOT]), lost
