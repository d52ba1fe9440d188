"""The command line of the retriever: `python -m livo retrieve PROMPT` and `retrieve --benchmark`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from livo.inputs import validate_prompt
from livo.retriever import Retriever, retrieve, retrieve_legacy
from livo.retriever.benchmark import SPLITS, figures_table, load_prompts, measure
from livo.retriever.dense import AUTO, OFF, find_head
from livo.retriever.endpoint import Endpoint
from livo.retriever.language_model import DEADLINE, RETRIES, TIMEOUT, LanguageModelRetriever
from livo.types import InputError, Retrieval

DENSE_HELP = (
    "sentence embeddings: use, a folder that python -m train.retriever wrote, none, or auto: use where its package is "
    "installed (%(default)s)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `retrieve`."""
    parser.add_argument("prompt", metavar="PROMPT", nargs="?")
    parser.add_argument(
        "--benchmark", action="store_true", help="measure on the labelled prompts instead of answering one"
    )
    parser.add_argument(
        "--split", choices=(*SPLITS, "all"), default="fresh", help="prompts of the benchmark (%(default)s)"
    )
    parser.add_argument("--legacy", action="store_true", help="the official keyword rule, for comparison only")
    parser.add_argument("--dense", default=AUTO, metavar="HEAD", help=DENSE_HELP)
    parser.add_argument(
        "--llm",
        metavar="URL",
        help="ask a model behind an OpenAI-compatible endpoint, such as http://localhost:8000/v1",
    )
    parser.add_argument("--model", default="default", help="the endpoint's name of the model (%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT, help="seconds for one answer of the model (%(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="JSON alone on standard output")


def run(args: argparse.Namespace) -> str:
    """The answer, as JSON or as lines; with --benchmark the figures, the official rule's beside them.

    Raises:
        InputError: neither a prompt nor --benchmark was given, or both, or two retrievers.
    """
    if args.benchmark == (args.prompt is not None):
        raise InputError("wanted a prompt, such as retrieve 'a photo of a doctor', or --benchmark alone")
    if args.legacy and (args.llm or args.dense not in (AUTO, OFF)):
        raise InputError(f"--legacy and {'--llm' if args.llm else '--dense'} are two retrievers: give one")
    if not args.timeout > 0:
        raise InputError(f"--timeout {args.timeout:g}: wanted seconds > 0")
    offline = retrieve if args.dense == AUTO else Retriever(dense=args.dense)
    if args.benchmark:
        prompts = load_prompts(split=args.split)
        retrievers: dict[str, Callable[[str], Retrieval]] = {} if args.legacy else {"words": Retriever()}
        if find_head(args.dense) and not args.legacy:
            retrievers["with embeddings"] = offline
        if args.llm:
            retrievers["language model"] = _language_model(args, offline)
        figures = {
            name: measure(ask, prompts) for name, ask in (retrievers | {"official keywords": retrieve_legacy}).items()
        }
        return (
            _json(figures)
            if args.json
            else f"{len(prompts):,} prompts, split {args.split}\n\n{figures_table(figures).grid()}"
        )
    prompt = validate_prompt(args.prompt)
    answer = (retrieve_legacy if args.legacy else _language_model(args, offline) if args.llm else offline)(prompt)
    if args.json:
        return _json({"prompt": prompt} | to_json(answer))
    principle = asdict(answer.principle) if answer.principle else None
    lines = list(principle_lines(principle, [asdict(item) for item in answer.evidence]))
    lines += [f"           also {p.text}: {answer.scores[p.id]:.2f}" for p in answer.principles[1:]]
    return "\n".join(lines + ([f"note       {answer.note}"] if answer.note else []))


def to_json(answer: Retrieval) -> dict[str, Any]:
    """What JSON can hold of an answer."""
    principle = answer.principle
    return {
        "principle": principle and {"id": principle.id, "text": principle.text, "risk": principle.risk},
        "principles": [p.id for p in answer.principles],
        "evidence": [asdict(item) for item in answer.evidence],
        "scores": dict(answer.scores),
        "note": answer.note,
    }


def principle_lines(principle: Mapping[str, Any] | None, evidence: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A principle and its evidence for people."""
    yield f"principle  {principle['text']} ({principle['risk']})" if principle else "principle  none applies"
    for item in evidence:
        yield f"           '{item['text']}': {item['reason']}"


def _language_model(args: argparse.Namespace, offline: Callable[[str], Retrieval]) -> LanguageModelRetriever:
    deadline = max(DEADLINE, args.timeout)
    return LanguageModelRetriever(
        Endpoint(args.llm, args.model, timeout=args.timeout, retries=RETRIES, deadline=deadline), offline
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
