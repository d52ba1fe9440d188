"""What a person types, checked: prompts and seeds, and the flags that choose a model. Every refusal says what to do instead."""

from __future__ import annotations

import argparse
import re
import unicodedata
from typing import Any

from livo.types import MAX_IMAGES, MAX_PROMPT_CHARACTERS, MAX_SEED, InputError

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")


def validate_prompt(prompt: str) -> str:
    """The prompt without space around it. Any script and any markup is text; nothing is interpreted.

    Raises:
        InputError: it is blank, too long, or holds control characters.

    Example:
        >>> validate_prompt(" a photo of a doctor ")
        'a photo of a doctor'
    """
    prompt = prompt.strip()
    if not any(character.isprintable() and not character.isspace() for character in prompt):
        raise InputError("the prompt is empty: describe a picture, such as 'a photo of a doctor'")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise InputError(
            f"the prompt has {len(prompt):,} characters; the most is {MAX_PROMPT_CHARACTERS:,}: shorten it "
            "(the model reads about the first 75 words)"
        )
    for i, character in enumerate(prompt):
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InputError(
                f"the prompt holds a control character (U+{ord(character):04X}) at place {i + 1}: remove it, and write "
                "the prompt on one line"
            )
    return prompt


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from a list of numbers and ranges, both ends included, in the order given.

    Raises:
        InputError: anything else, a seed out of range or given twice, or too many of them.

    Example:
        >>> parse_seeds("0-3,60")
        (0, 1, 2, 3, 60)
    """
    if not text.strip():
        raise InputError("no seeds were given: give numbers and ranges, such as 0-49,60")
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,20})(?:\s*-\s*([0-9]{1,20}))?\s*", part)
        if match is None:
            raise InputError(
                f"{_shown(part)} in seeds {_shown(text)} is no seed: give numbers and ranges, such as 0-49,60"
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise InputError(f"the seed range {part.strip()} runs backwards: write {last}-{first}")
        if last > MAX_SEED:
            raise InputError(f"seed {last} is out of range: a seed is a whole number from 0 to {MAX_SEED}")
        if len(seeds) + last - first + 1 > MAX_IMAGES:
            raise InputError(f"seeds {_shown(text)} are more than {MAX_IMAGES} images: give fewer")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) < len(seeds):
        twice = next(seed for i, seed in enumerate(seeds) if seed in seeds[:i])
        raise InputError(f"seed {twice} is given twice: the same seed makes the same image, so name it once")
    return tuple(seeds)


JUDGES_HELP = (
    "evaluator, open_clip, llava, safety_checker or none; several by comma, each as NAME:OPTION@FOLDER "
    "(the evaluator in the backbone's folder, else open_clip)"
)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which backbone, where and in which precision, and whose value encoder: the same flags for every command."""
    add = parser.add_argument
    add(
        "--backbone",
        default="miniature",
        help="miniature, a diffusers folder, a .safetensors file, or a hub id (%(default)s)",
    )
    add("--device", choices=DEVICES, help="(cuda where there is one, else cpu)")
    add("--dtype", choices=DTYPES, help="(float16 on cuda, else float32)")
    add(
        "--value-encoder",
        metavar="SOURCE",
        help="folder or hub id, such as adstellaria/LiVO (value_encoder/ in the backbone's folder)",
    )
    add("--judge", default="auto", metavar="NAMES", help=JUDGES_HELP)
    add(
        "--official-prompts",
        action="store_true",
        help="prompts beside a value unpadded and cut to 76 tokens, as the official release does",
    )


def method_settings(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What `add_model_arguments`'s flags mean for the methods, by id."""
    return {"livo": {"source": args.value_encoder, "official": args.official_prompts}}


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 40 else text[:40] + "…")
