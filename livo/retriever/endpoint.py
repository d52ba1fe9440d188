"""A language model behind any OpenAI-compatible endpoint: asked for JSON, with a time limit that holds, and retries.

Every answer is checked as if a stranger had typed it. Nothing is asked that the token cap cannot pay for.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from livo.types import InputError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how patiently.

    Attributes:
        base_url: such as `http://localhost:8000/v1`.
        timeout: seconds for one answer, from the request to its last byte.
        retries: further attempts where an answer fails; waits double from `backoff` seconds.
        max_tokens: the cost cap: prompt and reply tokens of all requests together.
        key_variable: the environment variable that holds the key; local servers need none.
        deadline: seconds for one question with all its attempts and waits; None for no such limit.
    """

    base_url: str
    model: str
    timeout: float = 60.0
    retries: int = 4
    backoff: float = 1.0
    max_tokens: int = 200_000
    key_variable: str = "OPENAI_API_KEY"
    deadline: float | None = None


@dataclass
class Tally:
    """What the asking took, and what became of the answers."""

    tokens: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """For people."""
        return f"{self.tokens:,} tokens; " + ", ".join(f"{n:,} {what}" for what, n in sorted(self.counts.items()))


class OutOfTokens(Exception):
    """The next request might pass the cap."""


def ask(
    endpoint: Endpoint, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any], read: Callable[[Any], Answer],
    tally: Tally, *, reply_tokens: int = 2_000,
) -> Answer | None:  # fmt: skip
    """One answer, or None where every attempt failed; `tally` counts why.

    Args:
        schema: the JSON schema asked for. Servers may ignore it, so that `read` must check.
        read: makes the answer of the parsed JSON; a ValueError, KeyError or TypeError says that it is malformed.

    Raises:
        OutOfTokens: the request might pass the cap.
        InputError: the endpoint refuses the request itself (wrong key, no such model): asking again is useless.
    """
    import openai  # here, because most of the project needs no language model

    end = float("inf") if endpoint.deadline is None else time.monotonic() + endpoint.deadline
    asked = sum(len(m["content"]) for m in messages) // 3  # a token is about four letters; three is on the safe side
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    request = {"model": endpoint.model, "messages": messages, "response_format": form, "max_tokens": reply_tokens}
    for attempt in range(endpoint.retries + 1):
        if tally.tokens + asked + reply_tokens > endpoint.max_tokens:
            raise OutOfTokens
        wait = endpoint.backoff * 2 ** (attempt - 1) if attempt else 0.0
        if time.monotonic() + wait >= end:
            tally.counts["stops at the deadline"] += 1
            return None
        time.sleep(wait)
        tally.counts["requests"] += 1
        try:
            answer = _request(endpoint, request, min(endpoint.timeout, end - time.monotonic()))
        except (TimeoutError, openai.APITimeoutError):
            tally.counts["answers too slow"] += 1
            tally.tokens += asked + reply_tokens  # it may have been written, and paid for
        except openai.RateLimitError:
            tally.counts["answers rate-limited"] += 1
        except (openai.APIConnectionError, openai.InternalServerError):
            tally.counts["answers failed at the server"] += 1
        except openai.APIStatusError as error:
            raise InputError(f"{endpoint.base_url} refuses ({error.status_code}): {error.message}") from error
        except (ValueError, openai.OpenAIError):
            tally.counts["answers malformed"] += 1
            tally.tokens += asked + reply_tokens
        else:
            tally.tokens += getattr(getattr(answer, "usage", None), "total_tokens", None) or asked + reply_tokens
            try:
                message = answer.choices[0].message
                if getattr(message, "refusal", None):
                    tally.counts["answers refused"] += 1
                    continue
                return read(json.loads(message.content))
            except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
                tally.counts["answers malformed"] += 1
    return None


def _request(endpoint: Endpoint, request: dict[str, Any], seconds: float) -> Any:
    """One request that is given up after so many seconds, also where the server sends a byte now and then.

    Raises:
        TimeoutError: no whole answer in time.
    """
    import openai

    key = os.environ.get(endpoint.key_variable) or "none"
    client = openai.OpenAI(base_url=endpoint.base_url, api_key=key, timeout=seconds, max_retries=0)
    done: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((client.chat.completions.create(**request), None))
        except BaseException as error:  # handed to the caller, whatever it is
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = done.get(timeout=max(seconds, 0.001))
    except queue.Empty:
        raise TimeoutError from None
    finally:
        client.close()
    if error is not None:
        raise error
    return answer
