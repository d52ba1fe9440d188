"""A command line from a dataclass or a pydantic model: one flag a field, and back again."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel

Settings = TypeVar("Settings")


def add_fields(
    parser: argparse.ArgumentParser,
    settings: Any,
    help: Mapping[str, str] | None = None,
    *,
    choices: Mapping[str, Collection[str]] | None = None,
    leave_out: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Adds a flag for every field: `num_steps: int` is `--num-steps N`, a bool a switch, a tuple words by comma.

    Args:
        settings: a dataclass or a pydantic model, or an instance, whose values are the defaults then.
        help: by field, what the flag is for; the default is added in brackets where there is one.
        choices: by field, the words it takes.
        leave_out: fields without a flag.
        optional: fields whose flag has no default: None, where it is not given, leaves the choice to `read_fields`.

    Raises:
        TypeError: a field is of a type that no flag can hold, or has no default and is not left out.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Run:
        ...     num_steps: int = 500
        ...     tags: tuple[str, ...] = ("a",)
        >>> parser = argparse.ArgumentParser()
        >>> add_fields(parser, Run)
        >>> read_fields(Run(), parser.parse_args(["--num-steps", "3", "--tags", "b, c"]))
        Run(num_steps=3, tags=('b', 'c'))
    """
    for name, (kind, default) in _fields(settings).items():
        if name in leave_out:
            continue
        flag, said = f"--{name.replace('_', '-')}", (help or {}).get(name, "")
        default = None if name in optional else getattr(settings, name, default)
        if default is MISSING:
            raise TypeError(f"{name} has no default: leave it out, or make it optional")
        shown = "" if default in (None, "", ()) else "(%(default)s)"
        text = f"{said} {shown}".strip() or None
        if kind is bool:
            parser.add_argument(flag, action="store_true", default=default, help=said or None)
        elif kind in (int, float, str):
            parser.add_argument(flag, type=kind, default=default, choices=(choices or {}).get(name), help=text)
        elif kind == tuple[str, ...] or (get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is Literal):
            default = default and ",".join(default)
            parser.add_argument(flag, type=_words, default=default, help=f"{said} by comma {shown}".strip())
        else:
            raise TypeError(f"no flag holds {name}: {kind}")


def _fields(settings: Any) -> dict[str, tuple[Any, Any]]:
    """Of every field its type and default, `MISSING` where it has none."""
    kind: Any = settings if isinstance(settings, type) else type(settings)
    if issubclass(kind, BaseModel):
        return {
            name: (info.annotation, MISSING if info.is_required() else info.get_default(call_default_factory=True))
            for name, info in kind.model_fields.items()
        }
    kinds = get_type_hints(kind)
    return {field.name: (kinds[field.name], field.default) for field in fields(kind)}


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_fields(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with what a command line gave; what it left out, or has no flag for, stays."""
    given = {f.name: getattr(args, f.name, None) for f in fields(settings)}  # type: ignore[arg-type]
    return replace(settings, **{k: v for k, v in given.items() if v is not None})  # type: ignore[type-var]


def changed_flags(settings: Any, usual: Any) -> list[str]:
    """The flags that make `settings` out of `usual`.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Run:
        ...     num_steps: int = 500
        ...     official: bool = False
        >>> changed_flags(Run(3, True), Run())
        ['--num-steps', '3', '--official']
    """
    words: list[str] = []
    for field in fields(settings):
        if (value := getattr(settings, field.name)) != getattr(usual, field.name):
            words += [f"--{field.name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words
