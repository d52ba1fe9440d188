"""What a person types or writes, checked: prompts, seeds, flags that choose a model, and files in YAML.

Every refusal says what to do instead.
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from livo.types import MAX_IMAGES, MAX_PROMPT_CHARACTERS, MAX_SEED, InputError

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")

Model = TypeVar("Model", bound=BaseModel)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it


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


def load_yaml(path: Path, remedy: str = "") -> Any:
    """What a YAML file holds.

    Args:
        remedy: what to do where the file is missing.

    Raises:
        InputError: it cannot be read, or is no YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}{remedy and f'; {remedy}'}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error


def read_model(model: type[Model], data: Any, where: str) -> Model:
    """Data of a file that a person wrote, as a model.

    Args:
        where: the file and the place in it, for the message.

    Raises:
        InputError: names the first field that is wrong, by its path, with what was wanted and what came.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    path = ".".join(str(part + 1) if isinstance(part, int) else part for part in problem["loc"])
    field, given, kind = f"{where}, field '{path}'" if path else where, problem["input"], problem["type"]
    if kind == "missing":
        raise InputError(f"{field} is missing")
    if kind == "extra_forbidden":
        raise InputError(f"{field}: there is no such field; there are: {', '.join(model.model_fields)}")
    if kind == "value_error":  # a validator's own words
        raise InputError(f"{field}: {problem['ctx']['error']}")
    said = _SAID.get(kind, problem["msg"])
    raise InputError(f"{field}: {said.format(**problem.get('ctx', {}))}, got {described(given)}")


_SAID = {
    "string_type": "wanted words (no, on, yes and numbers need quotes)",
    "string_too_short": "wanted words",
    "string_pattern_mismatch": "wanted small letters, digits and _, a letter first",
    "tuple_type": "wanted a list of words",
    "list_type": "wanted a list",
    "dict_type": "wanted fields by name",
    "model_type": "wanted fields by name",
    "literal_error": "wanted {expected}",
}
"""What was wanted, by pydantic's type of error; its own message where none stands here."""


def described(value: Any) -> str:
    """What came, in a few words.

    Example:
        >>> described(None), described(5)
        ('nothing', "int '5'")
    """
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


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
