"""What a visitor takes along: the card and the archive of a comparison, kept for a while under a name nobody
guesses."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from livo.compare.comparison import Comparison, MethodEntry
from livo.compare.record import ComparisonRecord
from livo.presentation.card import Pictures, archive_zip, card_png
from livo.ui.comparison_view import shown_of
from livo.ui.stored import Example

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.routing import Route

MOST_BYTES, MOST_COMPARISONS = 256_000_000, 100
"""That are kept; the comparison that was longest not made goes first."""
PREFIX = "/take"
GONE = "this comparison is no longer kept: press Compare again, and take the new one along"


@dataclass(frozen=True)
class Kept:
    """A comparison that can be taken along.

    Attributes:
        link: leads to the same view; empty where there is none.
        seen: card, status and rows as its visitor saw them, to be shown again after a reload.
    """

    record: ComparisonRecord
    pictures: Pictures
    link: str = ""
    seen: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(images.nbytes for images in self.pictures.images.values()) + sum(map(len, self.seen))


def kept_comparison(
    comparison: Comparison, entries: Mapping[str, MethodEntry], link: str = "", seen: Sequence[object] = ()
) -> Kept:
    """A comparison that was just made."""
    shown = shown_of(comparison, entries)
    pictures = Pictures(shown.titles, shown.images, shown.covered)
    return Kept(comparison.record(), pictures, link, tuple(map(str, seen)))


def kept_example(example: Example, seen: Sequence[object] = ()) -> Kept:
    """A stored comparison."""
    return Kept(example.record, Pictures(example.titles, example.images, {}), "", tuple(map(str, seen)))


def card(kept: Kept) -> bytes:
    """A PNG with all of it."""
    return card_png(kept.record, kept.pictures, kept.link)


def archive(kept: Kept) -> bytes:
    """A ZIP with pictures, figures and the card."""
    return archive_zip(kept.record, kept.pictures, card(kept))


class Shelf:
    """Comparisons by name, up to so many and so many bytes of pictures; safe to use from several threads."""

    def __init__(self, most_bytes: int = MOST_BYTES, most: int = MOST_COMPARISONS) -> None:
        self._most_bytes, self._most = most_bytes, most
        self._stored: dict[str, Kept] = {}
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, kept: Kept, *, stored: bool = False) -> str:
        """Keeps it, one that comes with the page for ever; returns its name."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            if stored:
                self._stored[name] = kept
                return name
            self._kept[name] = kept
            while len(self._kept) > self._most or (self._bytes() > self._most_bytes and len(self._kept) > 1):
                self._kept.popitem(last=False)
        return name

    def _bytes(self) -> int:
        return sum(one.bytes for one in self._kept.values())

    def get(self, name: str) -> Kept | None:
        """None where it was never there, or is no longer."""
        with self._lock:
            return self._stored.get(name) or self._kept.get(name)


def take_routes(shelf: Shelf) -> list[Route]:
    """Where cards and archives are fetched."""
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    def make(kind: str, pack: Callable[[Kept], bytes]) -> Callable:
        async def answer(request: Request) -> Response:
            kept = shelf.get(request.path_params["name"])
            if kept is None:
                return PlainTextResponse(GONE, 404)
            headers = {"Cache-Control": "private, no-store"}
            return Response(await run_in_threadpool(pack, kept), media_type=kind, headers=headers)

        return answer

    return [
        Route(f"{PREFIX}/{{name}}/livo-card.png", make("image/png", card)),
        Route(f"{PREFIX}/{{name}}/livo-comparison.zip", make("application/zip", archive)),
    ]
