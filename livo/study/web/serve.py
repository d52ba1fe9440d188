"""Opens the rating pages: alone, or as an application to mount beside the demo."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount

from livo.study.organise import rater_links
from livo.study.study_file import StudyFolder, load_study
from livo.study.vault import vault_of
from livo.study.web.server import StudySite, build_site
from livo.types import InputError
from livo.web.events import Store, default_url, refuse_ephemeral
from livo.web.serve import listen, reach_of, run, shown_address

PREFIX = "/study"


def open_sites(
    paths: Sequence[Path], url: str | None = None, base_url: str = "", *, allow_ephemeral: bool = False
) -> list[StudySite]:
    """The studies of some folders, ready to be served.

    Args:
        base_url: address of the server for others; "" for the one that they asked for.
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
        store = Store(where, folder.digest, folder.secret)
        sites.append(StudySite(folder, store, base_url and f"{base_url.rstrip('/')}{PREFIX}", vault_of(folder, store)))
    for site in sites:
        if site.vault:
            site.vault.start()
    return sites


def build_sites(sites: list[StudySite], base_url: str = "", *, allow_ephemeral: bool = False) -> Starlette:
    """The application of open studies; those that an organiser makes on the page are opened in it too."""

    def reopen(path: Path) -> StudySite:
        sites.extend(open_sites([path], None, base_url, allow_ephemeral=allow_ephemeral))
        return sites[-1]

    return build_site(sites, reopen)


def address_lines(folder: StudyFolder, base: str) -> list[str]:
    """What the organiser needs to begin."""
    first = rater_links(folder, base)[0]["link"]
    return [
        f"{folder.study.title}: {folder.study.raters} rater links, the first is {first}",
        f"organiser: {base}/{folder.name}/organise#{folder.organiser_key}",
    ]


def serve(
    paths: Sequence[Path], host: str, port: int, url: str | None, *, allow_ephemeral: bool = False, base_url: str = ""
) -> str:
    """Serves until Ctrl+C.

    Args:
        base_url: address of the server for others, with a proxy's prefix if there is one.

    Raises:
        InputError: as `open_sites`; or the port cannot be had.
    """
    reach = reach_of(host, base_url=base_url)
    sites = open_sites(paths, url, base_url, allow_ephemeral=allow_ephemeral)
    listening = listen(host, port)
    base = shown_address(host, listening.getsockname()[1], reach) + PREFIX
    for site in sites:
        print("\n".join(address_lines(site.folder, base)), file=sys.stderr)
    print(f"The rating pages are open at {base} (Ctrl+C stops them)", file=sys.stderr, flush=True)
    app = Starlette(routes=[Mount(PREFIX, app=build_sites(sites, base_url, allow_ephemeral=allow_ephemeral))])
    try:
        run(app, listening, reach)
    finally:
        for site in sites:
            site.close()
    return "stopped"
