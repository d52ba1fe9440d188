"""`python -m livo workshop`: check, print, pack and serve.

Nothing heavy is imported before a command runs; `pack` generates pictures with methods that the caller loads.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from livo.types import InputError

PORT = 7880
ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands below `workshop`."""
    commands = parser.add_subparsers(dest="act", required=True, metavar="{check,print,pack,serve}")
    commands.add_parser(
        "check", help="read all lessons, and say how long they are or what is wrong", allow_abbrev=False
    )
    paper = commands.add_parser(
        "print", help="facilitator guide, worksheet and answer key as HTML to print", allow_abbrev=False
    )
    paper.add_argument("lesson", metavar="LESSON", help=f"its id, such as two-rulers, or {ALL}")
    paper.add_argument("--out", type=Path, default=Path("papers"), help="folder for the papers (%(default)s)")
    commands.add_parser(
        "pack", help="make the lessons' pictures and figures from the stored results", allow_abbrev=False
    )
    serve = commands.add_parser("serve", help="open lessons and rooms without the demo", allow_abbrev=False)
    serve.add_argument("--host", default="127.0.0.1", help="(%(default)s)")
    serve.add_argument("--port", type=int, default=PORT, help="0 for any free one (%(default)s)")
    serve.add_argument("--base-url", default="", help="address for others: https://example.org/livo")
    serve.add_argument("--rooms", type=Path, help="folder in which rooms are stored (runs/rooms)")
    serve.add_argument(
        "--lan", action="store_true", help="for everybody in this network; prints the address and its QR code"
    )


def run(args: argparse.Namespace, load: Callable[[Sequence[str], Any], Mapping[str, Any]]) -> str:
    """Runs a command; says what it did.

    Args:
        load: ids of methods and an engine -> entries.

    Raises:
        InputError: lessons, pack, folder or port cannot be used.
    """
    from livo.workshop.lesson import load_lessons
    from livo.workshop.pack import check_lesson, load_pack
    from livo.workshop.translations import load_translations, missing_words

    if args.act == "pack":
        from livo.workshop.build import build_pack

        return build_pack(load)
    if args.act == "serve":
        from livo.workshop.web.serve import serve

        return serve(args.host, args.port, args.rooms, lan=args.lan, base_url=args.base_url)
    lessons, pack = {lesson.id: lesson for lesson in load_lessons()}, load_pack()
    for lesson in lessons.values():
        check_lesson(lesson, pack)
    translations, missing = load_translations(list(lessons.values()))
    if args.act == "check":
        rows = [f"{one.id:<26}{one.minutes:>3} min  {len(one.steps)} steps  {one.title}" for one in lessons.values()]
        for language, translated in translations.items():
            for one in translated.values():
                check_lesson(one, pack)
            rows.append(f"{language}: {len(translated)} of {len(lessons)} lessons: {', '.join(translated)}")
        return "\n".join([*rows, *missing, *missing_words(spoken())])
    if args.lesson != ALL and args.lesson not in lessons:
        raise InputError(f"there is no lesson {args.lesson!r}; there are: {', '.join(lessons)}, or {ALL}")
    from livo.workshop.printing import write_papers

    wanted = lessons.values() if args.lesson == ALL else [lessons[args.lesson]]
    return "\n".join(str(path) for lesson in wanted for path in write_papers(lesson, pack, args.out))


def spoken() -> set[str]:
    """All that pages, papers and refusals say, which is what a language's words are to hold."""
    from livo.workshop.printing import KINDS, PAPERS
    from livo.workshop.tallies import COLUMNS
    from livo.workshop.translations import said_words
    from livo.workshop.traps import TRICKS, WHY

    return said_words() | {*KINDS.values(), *PAPERS.values(), *COLUMNS, *TRICKS.values(), *WHY.values()}
