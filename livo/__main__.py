"""The command line: `python -m livo COMMAND`, such as `compare PROMPT` or `retrieve PROMPT`.

A composition root: it hands the methods of `baselines/` to the commands, and knows how none of them work. Only the
command that was asked for is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DESCRIPTION = "LiVO: one prompt, a value principle retrieved from it, and aligned images beside the original's."
COMMANDS = {
    "compare": ("livo.commands.compare", "generate, judge and measure"),
    "retrieve": ("livo.retriever.command", "the principles that a prompt calls for, and why"),
    "principles": ("livo.commands.principles", "list them, or what one still lacks"),
    "judge": ("livo.classifiers.measure", "measure a judge on a folder of labelled pictures"),
    "benchmark": ("baselines._benchmark.command", "one batch against five diffusers pipelines"),
    "evaluate": ("livo.evaluation.command", "the paper's tables and figures"),
    "study": ("livo.study.commands", "human evaluation: make a study, serve it, report"),
    "workshop": ("livo.workshop.commands", "lessons for a class: check, print, serve"),
}
"""Module and purpose by name; a module has `add_arguments(parser)` and `run(args, ...)`."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line; only the named command has its arguments, so that no other one is imported."""
    parser = argparse.ArgumentParser(prog="python -m livo", description=DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name, (module, purpose) in COMMANDS.items():
        added = commands.add_parser(name, help=purpose, allow_abbrev=False)
        if name == command:
            importlib.import_module(module).add_arguments(added)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0, or 2 where the input, the weights or the folder cannot be used: one line on standard error says why.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _quiet_libraries()
    args = build_parser(next(iter(arguments), None)).parse_args(arguments)
    try:
        with _stdout_kept_for_the_answer() as answer:
            print(_run(args), file=answer)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("livo: stopped", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        if not _is_for_people(error):
            raise
        print(f"livo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _run(args: argparse.Namespace) -> str:
    """A command's answer; some are given the methods, which they may not import."""
    run = importlib.import_module(COMMANDS[args.command][0]).run
    if args.command == "compare":
        import baselines

        return run(args, baselines)
    if args.command == "principles":
        from baselines import available

        return run(args, {id: module.RISKS for id, module in available().items()})
    if args.command == "study":
        return run(args, _generate)
    return run(args, _load) if args.command in ("evaluate", "workshop") else run(args)


def _load(ids: Sequence[str], engine: Any) -> Mapping[str, Any]:
    from baselines import load_methods

    return load_methods(ids, engine)


def _generate(args: argparse.Namespace, scratch: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A study's images: the comparisons as JSON, and the methods' titles."""
    import baselines
    from livo.commands.compare import comparisons
    from livo.commands.many_prompts import Place
    from livo.commands.prompt_file import FilePrompt
    from livo.retriever import retrieve

    places = [Place(FilePrompt("", prompt), scratch / str(i)) for i, prompt in enumerate(dict.fromkeys(args.prompts))]
    made = list(comparisons(args, places, baselines, retrieve))
    return [saved.record.to_json(saved.paths) for saved in made], dict(made[0].titles)


@contextlib.contextmanager
def _stdout_kept_for_the_answer() -> Iterator[Any]:
    """Whatever a library prints goes to standard error; the answer alone goes to standard output."""
    answer = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield answer
    answer.flush()


def _is_for_people(error: Exception) -> bool:
    """Whether the message was written for the person at the keyboard, by class name: torch stays unimported."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(
        names & {"InputError", "BackboneError", "ValueEncoderError", "ProjectionError", "JudgeError", "OSError"}
    )


def _quiet_libraries() -> None:
    """Progress bars and advice of the libraries would drown the one line that matters."""
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")


if __name__ == "__main__":
    sys.exit(main())
