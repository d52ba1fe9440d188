"""LiVO's page: `python app.py`. Builds it and launches it; the only place that knows Gradio's launch options."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

PORT = 7860
WAITING_MOST = 20
"""Visitors who may wait for their turn; the next one is told that the queue is full."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """`--port`, `--host`, `--backbone` and `--study`."""
    parser = argparse.ArgumentParser(description="Open LiVO's page in this machine's browser.", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=PORT, help="0 for any free one (%(default)s)")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), help="(%(default)s)")
    parser.add_argument("--backbone", default="miniature", help="miniature, a diffusers folder, or a hub id (%(default)s)")
    parser.add_argument("--study", action="append", default=[], type=Path, help="folder of a study whose rating pages to open too; may be repeated")
    parser.add_argument("--store", help="the study's store, if not beside it: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
    parser.add_argument("--allow-ephemeral", action="store_true", help="store answers on a disk that a restart empties")
    return parser.parse_args(arguments)


def usable_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        OSError: it is in use, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return probe.getsockname()[1]


def main(arguments: list[str] | None = None) -> int:
    """Loads, builds, launches and waits.

    Returns:
        0 when stopped, 2 where the page cannot be opened: one line on standard error says why.
    """
    args = parse_arguments(arguments)
    if not 0 <= args.port <= 65535:
        print(f"livo: {args.port} is no port: give 0 to 65535 with --port", file=sys.stderr)
        return 2
    try:
        port = usable_port(args.host, args.port)
    except OSError as error:
        print(
            f"livo: the page cannot be opened at {args.host}:{args.port} ({error.strerror}): give another port with --port, "
            "or --port 0 for any free one",
            file=sys.stderr,
        )
        return 2

    from starlette.routing import Mount

    from livo.study.web.serve import PREFIX, address_lines, build_sites, open_sites
    from livo.types import InputError
    from livo.ui.examples import load_examples
    from livo.ui.page import build_page
    from livo.ui.study_tab import OpenStudy
    from livo.ui.theme import CSS, build_theme, head
    from livo.ui.workbench import load_workbench

    try:
        sites = open_sites(args.study, args.store, allow_ephemeral=args.allow_ephemeral)
    except InputError as error:
        print(f"livo: {error}", file=sys.stderr)
        return 2
    if sites:
        sys.setswitchinterval(0.001)  # raters' answers are not to wait for the generator's thread
    bench = load_workbench(args.backbone)
    for problem in (bench.problem, bench.judge_problem, *(entrant.problem for entrant in bench.entrants.values())):
        if problem:
            print(f"livo: {problem}", file=sys.stderr)
    studies = [OpenStudy(site.folder.study.title, f"{PREFIX}/{site.folder.name}/") for site in sites]
    page = build_page(bench, load_examples(), studies)
    page.queue(max_size=WAITING_MOST)
    application, _, _ = page.launch(
        server_name=args.host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        theme=build_theme(),
        css_paths=CSS,
        head=head(),
        footer_links=["settings"],
        run_history=False,
        ssr_mode=False,
        share=False,
    )
    application.router.routes.insert(0, Mount(PREFIX, app=build_sites(sites, allow_ephemeral=args.allow_ephemeral)))  # before Gradio's own, which take any path
    shown = "127.0.0.1" if args.host in ("0.0.0.0", "::") else args.host
    for site in sites:
        print("\n".join(address_lines(site.folder, f"http://{shown}:{port}{PREFIX}")), flush=True)
    print(f"LiVO is open at http://{shown}:{port} (Ctrl+C stops it)", flush=True)
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
