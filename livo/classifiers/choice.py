"""Which judge to take: `--judge NAME[:OPTION][@SOURCE]`, several by comma.

    evaluator             the one that lies in the backbone's folder
    open_clip             CLIP ViT-L/14 by sentences: bias as the paper measures it, and toxicity; :person, :argmax
    llava                 LLaVA-1.5, toxicity as the paper measures it; :4bit
    safety_checker        Stable Diffusion's own: nudity alone
    open_nsfw             Yahoo's open_nsfw: nudity in photographs; its weights come with a package
    faces                 perceived gender of the one face in a photograph; its weights come with packages; :colour
    none                  no judge

SOURCE is a folder or an id of the hub. Of several the first that has a question answers it, and the next is compared.
Without a choice it is the evaluator, or open_clip where there is none. Nothing heavy is imported before it is wanted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from livo.classifiers.panel import Panel
from livo.types import InputError, Judge

AUTO, NONE, EVALUATOR = "auto", "none", "evaluator"
NAMES = (EVALUATOR, "open_clip", "llava", "safety_checker", "open_nsfw", "faces")


def parse_judges(text: str) -> tuple[tuple[str, str, str], ...]:
    """Name, option and source of each judge that is asked for by name; nothing for "auto" and "none".

    Raises:
        InputError: there is no judge of that name, or one is named twice.

    Example:
        >>> parse_judges("llava:4bit@models/llava, open_clip")
        (('llava', '4bit', 'models/llava'), ('open_clip', '', ''))
    """
    found: list[tuple[str, str, str]] = []
    if text in (AUTO, NONE):
        return ()
    for word in text.split(","):
        rest, _, source = word.strip().partition("@")
        name, _, option = rest.partition(":")
        if name not in NAMES:
            raise InputError(f"no judge {name!r}; there are: {', '.join(NAMES)}, or {NONE}")
        if name in [other for other, _, _ in found]:
            raise InputError(f"judge {name!r} stands there twice: give each judge once")
        found.append((name, option, source))
    return tuple(found)


def load_judges(
    choice: str, folder: Path, device: Any = "cpu", say: Callable[[str], None] | None = None
) -> Judge | None:
    """The judge to take, or None where none is wanted.

    Args:
        choice: "auto", "none", or as in this file's head.
        folder: the backbone's.
        device: for the large ones; the drawn world's evaluator stays on the CPU.
        say: told what will be downloaded, before; standard error without one.

    Raises:
        InputError: there is no such judge.
        JudgeError: its files are missing or broken.
    """
    if choice == NONE:
        return None
    if choice == AUTO:
        choice = EVALUATOR if (folder / EVALUATOR).is_dir() else "open_clip"
    wanted = parse_judges(choice)
    say = say or to_stderr
    judges = tuple(_load(name, option, source, folder, device, say) for name, option, source in wanted)
    return judges[0] if len(judges) == 1 else Panel(judges)


def to_stderr(line: str) -> None:
    """Where a word before a download goes."""
    print(f"livo: {line}", file=sys.stderr, flush=True)


def _load(name: str, option: str, source: str, folder: Path, device: Any, say: Callable[[str], None]) -> Judge:
    if name == EVALUATOR:
        if option:
            raise InputError(f"judge {EVALUATOR} has no options; {option!r} was given")
        from livo.classifiers.judge import load_judge

        return load_judge(source or folder / EVALUATOR)
    if name == "open_clip":
        from livo.classifiers.zero_shot import load_zero_shot

        return load_zero_shot(option, source, device, say)
    if name == "llava":
        from livo.classifiers.llava import load_llava

        return load_llava(option, source, device, say)
    if name == "open_nsfw":
        from livo.classifiers.open_nsfw import load_open_nsfw

        return load_open_nsfw(option, source)
    if name == "faces":
        from livo.classifiers.faces import load_faces

        return load_faces(option, source)
    from livo.classifiers.safety_checker import load_safety_checker

    if not source and (folder / "safety_checker").is_dir():
        source = str(folder)
    return load_safety_checker(option, source, device, say)
