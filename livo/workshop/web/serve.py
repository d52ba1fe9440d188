"""Opens the workshop: an application to mount beside the demo, or alone; and addresses that others on the same network can reach."""

from __future__ import annotations

import io
import os
import socket
import sys
import tempfile
from pathlib import Path

import segno
from starlette.applications import Starlette
from starlette.routing import Mount

from livo.types import InputError
from livo.workshop.lesson import FOLDER, load_lessons
from livo.workshop.pack import check_lesson, load_pack
from livo.workshop.rooms import Rooms
from livo.workshop.web.server import Workshop, build_site

PREFIX = "/workshop"
ROOMS = Path(__file__).resolve().parents[3] / "runs" / "rooms"
"""Where rooms are stored unless another folder is given."""


def open_workshop(rooms: Path | None = None, base: str = "", lessons: Path = FOLDER) -> Workshop:
    """The lessons, the pack and the rooms' store, all checked.

    Args:
        rooms: folder of the store; `ROOMS` where none is given, or a new folder of this machine's temporary ones where that
            cannot be written.
        base: address of this server for others, without the workshop's prefix; "" for the one that they asked for.

    Raises:
        InputError: a lesson or the pack is wrong, or the store cannot be opened.
    """
    pack, found = load_pack(lessons), load_lessons(lessons)
    for lesson in found:
        check_lesson(lesson, pack)
    return Workshop(found, pack, Rooms(rooms or _default_rooms(), found, pack), base and f"{base}{PREFIX}")


def _default_rooms() -> Path:
    try:
        ROOMS.mkdir(parents=True, exist_ok=True)
    except OSError:
        pass
    if os.access(ROOMS, os.W_OK):
        return ROOMS
    folder = Path(tempfile.mkdtemp(prefix="livo-rooms-"))
    print(
        f"livo: {ROOMS} cannot be written: rooms are stored in {folder}, and may be lost with it; give --rooms FOLDER",
        file=sys.stderr,
    )
    return folder


def lan_address() -> str:
    """This machine's address in its network; 127.0.0.1 where it is in none.

    No packet is sent: a UDP socket that is "connected" only chooses where it would send from.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation, which nobody has
            return probe.getsockname()[0]
        except OSError:
            pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def invitation_lines(base: str) -> list[str]:
    """What a teacher needs in the terminal: the address for the class, and its QR code."""
    address = f"{base}{PREFIX}/"
    drawn = io.StringIO()
    segno.make(address, error="l").terminal(out=drawn, compact=True)
    return [drawn.getvalue().rstrip("\n"), f"Workshop, for everybody in this network: {address}"]


def serve(host: str, port: int, rooms: Path | None, *, lan: bool = False) -> str:
    """Serves the workshop alone, without the demo, until Ctrl+C.

    Raises:
        InputError: as `open_workshop`; or the port cannot be had.
    """
    import uvicorn

    host = "0.0.0.0" if lan else host
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the workshop cannot be opened at {host}:{port} ({error}): give another port with --port, or --port 0"
        ) from error
    shown = lan_address() if lan else "127.0.0.1" if host in ("0.0.0.0", "::") else host
    base = f"http://{shown}:{listening.getsockname()[1]}"
    workshop = open_workshop(rooms, base if lan else "")
    if lan:
        print("\n".join(invitation_lines(base)), file=sys.stderr)
    print(f"The workshop is open at {base}{PREFIX}/ (Ctrl+C stops it)", file=sys.stderr, flush=True)
    app = Starlette(routes=[Mount(PREFIX, app=build_site(workshop))])
    server = uvicorn.Server(
        uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off", timeout_keep_alive=75)
    )
    try:
        server.run(sockets=[listening])
    finally:
        workshop.rooms.close()
    return "stopped"
