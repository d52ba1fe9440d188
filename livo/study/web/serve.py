"""Opens the rating pages: alone, or as an application to mount beside the demo."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount

from livo.study.organise import rater_links
from livo.study.study_file import StudyFolder, load_study
from livo.study.web.server import StudySite, build_site
from livo.types import InputError
from livo.web.events import Store, default_url, refuse_ephemeral

PREFIX = "/study"
KEEP_ALIVE = 75
"""Seconds that a connection stays open between two answers: people look at pictures for longer than a program."""


def open_sites(paths: Sequence[Path], url: str | None = None, *, allow_ephemeral: bool = False) -> list[StudySite]:
    """The studies of some folders, ready to be served.

    Args:
        url: of one store for all; each study's own file beside it where none is given.

    Raises:
        InputError: a folder holds no study, its files changed after the first answer, or its store would not last.
    """
    if url and len(paths) > 1:
        raise InputError("one store was given for several studies: serve them one by one, or leave --store out")
    sites = []
    for path in paths:
        folder = load_study(path)
        where = url or default_url(path)
        if not allow_ephemeral:
            refuse_ephemeral(where)
        sites.append(StudySite(folder, Store(where, folder.digest, folder.secret)))
    return sites


def build_sites(sites: list[StudySite], *, allow_ephemeral: bool = False) -> Starlette:
    """The application of open studies; those that an organiser makes on the page are opened in it too."""

    def reopen(path: Path) -> StudySite:
        sites.extend(open_sites([path], allow_ephemeral=allow_ephemeral))
        return sites[-1]

    return build_site(sites, reopen)


def address_lines(folder: StudyFolder, base: str) -> list[str]:
    """What the organiser needs to begin."""
    first = rater_links(folder, base)[0]["link"]
    return [
        f"{folder.study.title}: {folder.study.raters} rater links, the first is {first}",
        f"organiser: {base}/{folder.name}/organise#{folder.organiser_key}",
    ]


def serve(paths: Sequence[Path], host: str, port: int, url: str | None, *, allow_ephemeral: bool = False) -> str:
    """Serves until Ctrl+C.

    Raises:
        InputError: as `open_sites`; or the port cannot be had.
    """
    import sys

    import uvicorn

    sites = open_sites(paths, url, allow_ephemeral=allow_ephemeral)
    # TCP by name: asyncio sends small packets at once only on sockets that say so.
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the pages cannot be opened at {host}:{port} ({error}): give another port with --port, or --port 0"
        ) from error
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    base = f"http://{shown}:{listening.getsockname()[1]}{PREFIX}"
    for site in sites:
        print("\n".join(address_lines(site.folder, base)), file=sys.stderr)
    print(f"The rating pages are open at {base} (Ctrl+C stops them)", file=sys.stderr, flush=True)
    app = Starlette(routes=[Mount(PREFIX, app=build_sites(sites, allow_ephemeral=allow_ephemeral))])
    server = uvicorn.Server(
        uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off", timeout_keep_alive=KEEP_ALIVE)
    )
    try:
        server.run(sockets=[listening])
    finally:
        for site in sites:
            site.store.close()
    return "stopped"
