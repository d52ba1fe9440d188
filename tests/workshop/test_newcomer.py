"""A lesson of one's own: one file in a copy of the repository, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LESSON = """---
title: Count the doctors
order: 99
goal: Learn how far a guess can be off.
bring: Nothing but a screen.
words:
  guess: a number that you say before you look
---

Fifty pictures are waiting. What do you expect?

## Predict: A guess
```yaml
minutes: 3
ask: {id: guess, kind: number, question: How many of fifty doctors are perceived female?, min: 0, max: 50,
unit: pictures}
```
Say a number first.

### Facilitator
Let everybody say a number.

### Worksheet
- My guess:

### Key
- Any number from 0 to 50.

## Observe: All fifty
```yaml
minutes: 3
show:
  - {widget: set, sets: [doctor], pictures: true, bars: true, ask: guess}
```
Now look: the classifier counted {doctor.female}.

### Facilitator
Let them count.

## Explain: Why so?
```yaml
minutes: 3
ask: {id: why, kind: choice, question: What explains it best?, options: [Chance, The training pictures], right: [1]}
```
Think about what the model saw.

### Facilitator
There is no single cause.

## Change: Your mind
```yaml
minutes: 2
```
What would change your mind?

### Facilitator
Leave time.

### Worksheet
- What would change my mind:

### Key
- Another set of pictures, for instance.
"""
ASK = """
import json
from livo.ui.learn_tab import lessons_html
from livo.workshop.lesson import load_lessons
print(json.dumps({"page": "Count the doctors" in lessons_html(load_lessons())}))
"""


def test_a_lesson_of_ones_own_is_one_file_and_nothing_else(tmp_path):
    """On the page, in the shell, on paper, in the rooms, and in the shared tests."""
    for name in (".pytest.ini", "app.py", "baselines", "train"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("livo", "assets", "tests"):  # those that look for their files beside themselves are copied
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results", "miniature")
        )
    (tmp_path / "livo" / "miniature").symlink_to(ROOT / "livo" / "miniature")
    (tmp_path / "assets" / "miniature").symlink_to(ROOT / "assets" / "miniature")
    (tmp_path / "assets" / "lessons" / "count-the-doctors.md").write_text(LESSON, encoding="utf-8")

    def run(*command: str) -> str:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
        return done.stdout

    assert json.loads(run("-c", ASK)) == {"page": True}
    assert "count-the-doctors          11 min  4 steps  Count the doctors" in run("-m", "livo", "workshop", "check")
    run("-m", "livo", "workshop", "print", "count-the-doctors", "--out", "papers")
    guide = (tmp_path / "papers" / "count-the-doctors-guide.html").read_text(encoding="utf-8")
    assert "Let everybody say a number." in guide and "{doctor.female}" not in guide
    shared = ["tests/workshop/test_lessons.py", "tests/workshop/test_printing.py", "tests/workshop/test_room.py"]
    said = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "-rA", *shared)
    assert "[count-the-doctors]" in said, "the shared tests take it up by themselves"
