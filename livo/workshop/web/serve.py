"""Opens the workshop: an application to mount beside the demo, or alone."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route

from livo.web.serve import listen, qr_terminal, reach_of, run, shown_address
from livo.workshop.lesson import FOLDER, load_lessons
from livo.workshop.pack import check_lesson, load_pack
from livo.workshop.rooms import Rooms
from livo.workshop.translations import load_translations
from livo.workshop.web.server import Workshop, build_site

PREFIX = "/workshop"
ROOMS = Path(__file__).resolve().parents[3] / "runs" / "rooms"
"""Where rooms are stored unless another folder is given."""


def open_workshop(rooms: Path | None = None, base: str = "", lessons: Path = FOLDER) -> Workshop:
    """The lessons, the pack and the rooms' store, all checked.

    Args:
        rooms: folder of the store; `ROOMS` where none is given, or a new folder of the temporary ones where that
            cannot be written.
        base: address of this server for others, without the workshop's prefix; "" for the one that they asked for.

    Raises:
        InputError: a lesson or the pack is wrong, or the store cannot be opened.
    """
    pack, found = load_pack(lessons), load_lessons(lessons)
    for lesson in found:
        check_lesson(lesson, pack)
    translations, _ = load_translations(found, lessons)
    for translated in (one for group in translations.values() for one in group.values()):
        check_lesson(translated, pack)
    return Workshop(
        found, pack, Rooms(rooms or _default_rooms(), found, pack), base and f"{base}{PREFIX}", translations
    )


def _default_rooms() -> Path:
    with contextlib.suppress(OSError):
        ROOMS.mkdir(parents=True, exist_ok=True)
    if os.access(ROOMS, os.W_OK):
        return ROOMS
    folder = Path(tempfile.mkdtemp(prefix="livo-rooms-"))
    print(
        f"livo: {ROOMS} cannot be written: rooms are stored in {folder}, and may be lost with it; give --rooms FOLDER",
        file=sys.stderr,
    )
    return folder


def invitation_lines(base: str, key: str = "") -> list[str]:
    """What a teacher needs in the terminal: the address for the class, its QR code, and the host's own link.

    Args:
        key: of the host's link to the demo; "" where there is none.
    """
    lines = [qr_terminal(f"{base}/"), f"Join, for everybody in this network: {base}/"]
    if key:
        lines.append(f"The demo, for the host alone: {base}/?host={key}")
    return [*lines, f"Open a room: {base}{PREFIX}/"]


def serve(host: str, port: int, rooms: Path | None, *, lan: bool = False, base_url: str = "") -> str:
    """Serves the workshop alone, without the demo, until Ctrl+C.

    Args:
        lan: for everybody in this network.
        base_url: address of the server for others, with a proxy's prefix if there is one.

    Raises:
        InputError: as `open_workshop`; or the port cannot be had.
    """
    host = "0.0.0.0" if lan else host
    reach = reach_of(host, base_url=base_url)
    listening = listen(host, port)
    base = shown_address(host, listening.getsockname()[1], reach)
    workshop = open_workshop(rooms, base if lan or base_url else "")
    if lan:
        print("\n".join(invitation_lines(base)), file=sys.stderr)
    print(f"The workshop is open at {base}{PREFIX}/ (Ctrl+C stops it)", file=sys.stderr, flush=True)
    try:
        routes = [
            Route("/", lambda request: RedirectResponse(f"{PREFIX}/join")),
            Mount(PREFIX, app=build_site(workshop)),
        ]
        run(Starlette(routes=routes), listening, reach)
    finally:
        workshop.rooms.close()
    return "stopped"
