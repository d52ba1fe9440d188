"""What a person types or writes, checked: prompts, seeds, flags that choose a model, and files in YAML.

Every refusal says what to do instead.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from livo.types import MAX_IMAGES, MAX_PROMPT_CHARACTERS, MAX_SEED, InputError, ModelChanges

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP")
"""What a file of a stranger may be, whatever it is called: PostScript, for one, would be handed to a program."""
DELIMITERS = ",;\t|"
MOST_YAML = 1_000_000
DEEPEST_YAML = 30
LONGEST_NUMBER = 100
"""Digits of a number in YAML."""

Model = TypeVar("Model", bound=BaseModel)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it
_NUMBER = re.compile(r"[-+]?[0-9a-fA-FxXoObB_.:]+")
_LINE_BREAKS = re.compile(r"[ \t]*[\r\n\t\u2028\u2029]+[ \t]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def validate_prompt(prompt: str) -> str:
    """The prompt on one line, without space around it. Any script and any markup is text; nothing is interpreted.

    Line breaks and tabs, as they come along with pasted text, are a space each.

    Raises:
        InputError: it is blank, too long, or holds control characters.

    Example:
        >>> validate_prompt(" a photo of\\na doctor ")
        'a photo of a doctor'
    """
    prompt = _LINE_BREAKS.sub(" ", prompt).strip()
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
                f"the prompt holds a control character (U+{ord(character):04X}) at place {i + 1}: remove it"
            )
    return prompt


def validate_negative_prompt(text: str) -> str:
    """The negative prompt without space around it; it may be empty. Raises as `validate_prompt`."""
    return validate_prompt(text) if text.strip() else ""


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
    "evaluator, open_clip, llava, safety_checker, open_nsfw, faces or none; several by comma, as NAME:OPTION@FOLDER "
    "(the evaluator in the backbone's folder, else open_clip)"
)


def load_yaml(path: Path, remedy: str = "") -> Any:
    """What a YAML file holds.

    Args:
        remedy: what to do where the file is missing.

    Raises:
        InputError: it cannot be read, or as `parse_yaml`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}{remedy and f'; {remedy}'}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: save it as UTF-8") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """What YAML in the plain says: no aliases, by which 300 bytes become gigabytes, and no key twice.

    Args:
        where: the file, for the message.

    Raises:
        InputError: one line that says what is wrong, and in which line of the text.

    Example:
        >>> parse_yaml("a: [1, yes]", "x.yaml")
        {'a': [1, True]}
    """
    if len(text) > MOST_YAML:
        raise InputError(f"{where} has {len(text):,} characters; the most is {MOST_YAML:,}")
    try:
        _check_events(text, where)
        loader = _LOADER(text)
        if (node := loader.get_single_node()) is None:
            return None
        _check_keys(node, where)
        return loader.construct_document(node)
    except InputError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{where} is not readable YAML: {' '.join(str(error).split())[:300]}") from error


def _check_events(text: str, where: str) -> None:
    """Before anything is built of it: by events, which take no stack and no memory however deep they go."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = f"{where}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{line}: an alias (*{event.anchor[:40]}) cannot be used here: write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_YAML:
            raise InputError(f"{line}: fields lie more than {DEEPEST_YAML} levels deep")
        if not isinstance(event, yaml.ScalarEvent):
            continue
        if event.implicit[0] and len(event.value) > LONGEST_NUMBER and _NUMBER.fullmatch(event.value):
            raise InputError(f"{line}: a number of {len(event.value):,} digits: put words in quotes, shorten numbers")
        if _SURROGATE.search(event.value):
            raise InputError(f"{line}: half a character (U+D800 to U+DFFF): remove it")


def _check_keys(node: yaml.Node, where: str) -> None:
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for part in child if isinstance(child, tuple) else (child,):
            _check_keys(part, where)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise InputError(f"{where}, line {key.start_mark.line + 1}: {key.value[:40]!r} stands there twice")
            seen.add(key.value)


def decode_text(data: bytes, where: str) -> str:
    """A text file's words: UTF-8, with its mark or without, or UTF-16 with its mark, as spreadsheets write it.

    Raises:
        InputError: it is neither.
    """
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not text in UTF-8: save it as UTF-8 (of a table, as CSV UTF-8)") from error


def read_table(data: bytes, where: str, wanted: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table as people have them, each with its line: UTF-8 or UTF-16, separated by commas, semicolons, tabs
    or bars, headers in any case; cells without space around them, empty rows left out.

    Args:
        wanted: columns that must be there; there may be more.

    Raises:
        InputError: the columns are not those wanted; names those that were found.

    Example:
        >>> read_table(b"File; Prompt; Method; Seed\\na.png; a cat; one; 0", "x.csv", ["prompt"])[0][1]["prompt"]
        'a cat'
    """
    text = decode_text(data, where)
    first = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise InputError(f"{where} is no table ({error}): save it as CSV UTF-8") from error
    head = [name.strip().casefold().replace(" ", "_") for name in rows[0]] if rows else []
    if set(wanted) - set(head) or len(set(head)) < len(head):
        found = ", ".join(head)[:200] or "none"
        raise InputError(f"{where}: columns found: {found}; wanted: {', '.join(wanted)}, each once")
    out = []
    for line, cells in enumerate(rows[1:], 2):
        cells = [cell.strip() for cell in cells]
        if len(cells) > len(head) and any(cells[len(head) :]):
            raise InputError(f"{where}, line {line}: {len(cells)} cells, and {len(head)} columns: put texts in quotes")
        if any(cells):
            out.append((line, dict(zip(head, cells + [""] * len(head), strict=False))))
    return out


class StrictModel(BaseModel):
    """Data from outside: nothing is converted, no unknown field is let through, and nothing changes afterwards."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


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
        name, known = str(problem["loc"][-1]), _fields_at(model, problem["loc"])
        near = difflib.get_close_matches(name, known, 1)
        meant = f", did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{field}: there is no such field{meant}; there are: {', '.join(known)}")
    if kind == "value_error":  # a validator's own words
        raise InputError(f"{field}: {problem['ctx']['error']}")
    said = _SAID.get(kind, problem["msg"])
    raise InputError(f"{field}: {said.format(**problem.get('ctx', {}))}, got {described(given)}")


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names of the fields beside the one that the path leads to; the outermost where models lie in lists or unions."""
    for part in path[:-1]:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)


_SAID = {
    "int_type": "wanted a whole number",
    "int_from_float": "wanted a whole number",
    "float_type": "wanted a number",
    "bool_type": "wanted true or false",
    "greater_than_equal": "wanted at least {ge}",
    "less_than_equal": "wanted at most {le}",
    "less_than": "wanted less than {lt}",
    "union_tag_invalid": "wanted one of {expected_tags} as {discriminator}",
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
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple | dict | set):
        return f"{type(value).__name__} of {len(value)}"
    try:
        text = str(value)
    except ValueError:  # a number of thousands of digits
        text = "too long to show"
    return f"{type(value).__name__} {text[:40].encode('utf-8', 'backslashreplace').decode()!r}"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which backbone, where and in which precision, and whose value encoder: the same flags for every command."""
    add = parser.add_argument
    add(
        "--backbone",
        default="miniature",
        help="miniature, a diffusers folder, a .safetensors file, or a hub id (%(default)s)",
    )
    add("--device", choices=DEVICES, help="(cuda where there is one, else cpu)")
    add("--dtype", choices=DTYPES, help="auto: on a CPU bfloat16 where it is faster (float16 on cuda, else float32)")
    add("--graphs", action="store_true", help="on cuda: launch repeated calls as CUDA graphs; not yet run on a card")
    add_change_arguments(parser)
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


def add_change_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The flags of `ModelChanges`."""
    add = parser.add_argument
    add("--vae", metavar="SOURCE", help="another VAE: a folder, a .safetensors file or a hub id (the backbone's)")
    add("--lora", metavar="FILE[:WEIGHT]", help="a LoRA merged into the model, for all methods (needs peft)")
    add(
        "--scheduler",
        metavar="NAME",
        help="one of diffusers', such as DDIM or EulerAncestralDiscrete (DPM-Solver++; the model's own where it was "
        "made for few steps)",
    )


def model_changes(args: argparse.Namespace) -> ModelChanges:
    """`add_change_arguments`'s flags."""
    return ModelChanges(args.vae, args.lora, args.scheduler)


def add_sampling_arguments(parser: argparse.ArgumentParser, seeds: str) -> None:
    """What is asked of the sampler, where a command makes pictures of prompts.

    Args:
        seeds: those that are taken unless others are asked for.
    """
    add = parser.add_argument
    add("--seeds", default=seeds, help="such as 0-49,60: one image each (%(default)s)")
    add("--steps", type=int, help="solver steps (the backbone's own)")
    add("--guidance", type=float, help="guidance scale; it acts above 1 (the backbone's own)")
    add("--width", type=int, help="pixels (the backbone's own)")
    add("--height", type=int, help="pixels (the backbone's own)")
    add(
        "--negative-prompt",
        default="",
        metavar="TEXT",
        help="in place of the empty prompt that guidance leads away from",
    )


def method_settings(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What `add_model_arguments`'s flags mean for the methods, by id."""
    return {"livo": {"source": args.value_encoder, "official": args.official_prompts}}


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 40 else text[:40] + "…")
