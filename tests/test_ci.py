"""`.ci/run` on a repository of three files, whose "pytest" only writes a report."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCE = "```"
README = "# x\n\n" + "\n".join(
    f"{FENCE}bash\n{line}\n{FENCE}\n" for line in ("exit 9", "python3 fake_pytest.py", "exit 8")
)
FAKE = """import os, re, sys
path = re.search(r"--junitxml=(\\S+)", os.environ["PYTEST_ADDOPTS"])[1]
open(path, "w").write('<testsuites><testsuite>{cases}</testsuite></testsuites>')
print("===== 2 passed in 0.01s =====")
sys.exit({status})
"""
PLAIN = '<testcase classname="tests.test_x" name="test_a"/>'
SKIPPED_PLAIN = '<testcase classname="tests.test_x" name="test_a"><skipped message="no GPU"/></testcase>'
BROWSER = '<testcase classname="tests.browser.test_page" name="test_b"/>'
SKIPPED = '<testcase classname="tests.browser.test_page" name="test_b"><skipped message="no Chromium"/></testcase>'


def ci(
    folder: Path, cases: str, *, status: int = 0, readme: str = README, ruff: str = "exit 0", mypy: str = "exit 0"
) -> subprocess.CompletedProcess:
    repository = folder / "repository"
    (repository / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", repository / ".ci" / "run")
    (repository / "README.md").write_text(readme, encoding="utf-8")
    (repository / "fake_pytest.py").write_text(FAKE.format(cases=cases, status=status), encoding="utf-8")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(repository)]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    (repository / "fake_pytest.py").write_text("raise SystemExit('not what is committed')", encoding="utf-8")
    bin = folder / "bin"  # a Chromium and tools that are there, and a virtual environment that costs nothing
    bin.mkdir()
    scripts = {"chromium": "exit 0", "fake_python": 'mkdir -p "$3/bin"', "ruff": ruff, "mypy": mypy}
    for name, script in scripts.items():
        (bin / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (bin / name).chmod(0o755)
    env = os.environ | {"PATH": f"{bin}:{os.environ['PATH']}", "PYTHON": "fake_python"}
    return subprocess.run([repository / ".ci" / "run"], env=env, cwd=folder, capture_output=True, text=True, timeout=60)


def test_it_runs_the_second_command_in_a_fresh_clone_and_ends_with_pytests_line(tmp_path):
    done = ci(tmp_path, PLAIN + BROWSER)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "ci: python3 fake_pytest.py"
    assert done.stdout.splitlines()[-1] == "===== 2 passed in 0.01s ====="


def test_a_skipped_browser_test_fails_it_and_another_skip_does_not(tmp_path):
    done = ci(tmp_path / "a", BROWSER + SKIPPED)
    assert done.returncode != 0 and "skipped: tests.browser.test_page::test_b: no Chromium" in done.stdout
    assert ci(tmp_path / "b", BROWSER + SKIPPED_PLAIN).returncode == 0


@pytest.mark.parametrize(
    ("cases", "options"),
    [
        (PLAIN, {}),  # no browser test ran
        (PLAIN + BROWSER, {"status": 1}),
        (PLAIN + BROWSER, {"ruff": '[ "$1" != check ]'}),
        (PLAIN + BROWSER, {"ruff": '[ "$1" != format ]'}),
        (PLAIN + BROWSER, {"mypy": "exit 1"}),
        (PLAIN + BROWSER, {"readme": README.replace("python3 fake_pytest.py", "true")}),
        (PLAIN + BROWSER, {"readme": README.replace("python3 fake_pytest.py", "false && python3 fake_pytest.py")}),
    ],
    ids=["no browser test", "a failing test", "lint", "format", "types", "another command", "a failing install"],
)
def test_what_else_fails_it(tmp_path, cases, options):
    assert ci(tmp_path, cases, **options).returncode != 0
