"""The one reader of request bodies: JSON of a stated form, or a refusal in words."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from livo.inputs import StrictModel
from livo.web.events import Refused

LARGEST_BODY = 4_096
DEEPEST = 6
LARGEST_NUMBER = 1e15


class Body(StrictModel):
    """What a page may send."""


Read = TypeVar("Read", bound=Body)


async def read_body(request: Request, form: type[Read], largest: int = LARGEST_BODY) -> Read:
    """The body of a request.

    Args:
        form: what it must be.
        largest: bytes.

    Raises:
        Refused: it is no JSON (415, 422), too large (413), or not of this form (422, with the field's name).
    """
    # Other sites' forms cannot send this type.
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Refused(415, "no_json", "send application/json")
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > largest:
            raise Refused(413, "too_large", f"this has at most {largest} bytes")
    return parse_body(raw, form)


def parse_body(raw: bytes, form: type[Read]) -> Read:
    """As `read_body`, from bytes.

    Raises:
        Refused: likewise.
    """
    try:
        body = form.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"]) or "the body"
        raise Refused(422, "bad_body", f"{where}: {first['msg'][:200]}") from error
    for name in form.model_fields:
        if not _plain(getattr(body, name), DEEPEST):
            raise Refused(422, "bad_body", f"{name}: it holds what no page of this server sends")
    return body


def _plain(value: Any, deepest: int) -> bool:
    """Whether a value can be stored and read everywhere: no null characters, no huge numbers, no deep nesting."""
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, int | float):
        return -LARGEST_NUMBER < value < LARGEST_NUMBER  # also not for NaN
    if isinstance(value, list | tuple):
        return deepest > 0 and all(_plain(one, deepest - 1) for one in value)
    if isinstance(value, dict):
        return deepest > 0 and all(_plain(name, 0) and _plain(one, deepest - 1) for name, one in value.items())
    return value is None
