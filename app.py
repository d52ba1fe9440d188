"""LiVO's page: `python app.py`. Builds it and launches it; the only place that knows Gradio's launch options."""

from __future__ import annotations

import argparse
import gc
import os
import secrets
import socket
import sys
import threading
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# After every event Gradio sums up the last 10,000, with pandas, for a page that is closed here.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")

PORT = 7860
WAITING_MOST = 20
"""Visitors who may wait for their turn; the next one is told that the queue is full."""
FULL = f"{WAITING_MOST} visitors are waiting already: try again in a minute. The stored comparisons work meanwhile."
VISITORS_KEPT = 100
"""Tabs whose state is remembered, the last ones used. Gradio keeps 0.2 MB and the last pictures of each, of
10,000 tabs unless told."""


ASKING = (60, 4.0)
"""Requests that may join the queue of a public page from one address: so many at once, then so many a second."""
NO_FILES = "this page takes no files"
NOT_HERE = "this server does not offer that"
REFUSED = {
    "/gradio_api/upload": NO_FILES, "/gradio_api/process_recording": NO_FILES, "/gradio_api/component_server": NOT_HERE,
    "/gradio_api/stream": NOT_HERE, "/gradio_api/proxy=": NOT_HERE, "/gradio_api/vibe": NOT_HERE,
    "/gradio_api/undo-vibe": NOT_HERE, "/gradio_api/profiling": NOT_HERE, "/gradio_api/run-history": NOT_HERE,
    "/monitoring": NOT_HERE, "/gradio_api/deep_link": NOT_HERE, "/gradio_api/custom_component": NOT_HERE,
    "/gradio_api/file": NO_FILES, "/gradio_api/mcp/sse": NOT_HERE, "/gradio_api/mcp/messages": NOT_HERE,
    "/pwa_icon": NOT_HERE, "/gradio_api/dev": NOT_HERE, "/gradio_api/upload_progress": NO_FILES,
}  # fmt: skip
"""Gradio's routes that this page needs none of."""
FOR_EVERYBODY = ("/", "/config", "/theme.css", "/manifest.json")
"""Answers that are the same for all visitors, and take Gradio long."""
TOOLS = "/gradio_api/mcp"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """`--port`, `--host`, the model's flags, who may see what, and `--study`."""
    from livo.ui.opening import add_page_arguments

    parser = argparse.ArgumentParser(description="Open LiVO's page in this machine's browser.", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=PORT, help="0 for any free one (%(default)s)")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), help="(%(default)s)")
    add_page_arguments(parser)
    parser.add_argument(
        "--lan", action="store_true", help="for everybody in this network: prints the address and its QR code"
    )
    parser.add_argument(
        "--school", action="store_true", help="as --lan, and the demo opens on this machine alone: no link for the host"
    )
    parser.add_argument("--base-url", default="", help="address for others, such as https://example.org/livo")
    parser.add_argument(
        "--root-path", default=os.environ.get("GRADIO_ROOT_PATH", ""), help="what a proxy puts before every path: /livo"
    )
    parser.add_argument("--rooms", type=Path, help="folder in which the workshop's rooms are stored (runs/rooms)")
    parser.add_argument(
        "--study",
        action="append",
        default=[],
        type=Path,
        help="folder of a study whose rating pages to open too; may be repeated",
    )
    parser.add_argument(
        "--store", help="the study's store, if not beside it: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    )
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


def say_full(request: object, error: Exception) -> object:
    """What a visitor reads when there is no more room in the queue; Gradio's page shows it."""
    from starlette.responses import JSONResponse

    detail = str(getattr(error, "detail", error))
    return JSONResponse({"detail": FULL if detail.startswith("Queue is full") else detail}, 503)


def answer_anyway(request: object, error: Exception) -> object:
    """What a program gets for a request that Gradio's own routes stumble over, such as a function that there is not."""
    from starlette.responses import JSONResponse

    from livo.ui.errors import PLAIN

    return JSONResponse({"detail": PLAIN}, 500, {"connection": "close"})


def main(arguments: list[str] | None = None) -> int:
    """Loads, builds, launches and waits.

    Returns:
        0 when stopped, 2 where the page cannot be opened: one line on standard error says why.
    """
    args = parse_arguments(arguments)
    args.lan |= args.school
    if args.lan:
        args.host = "0.0.0.0"
    if not 0 <= args.port <= 65535:
        print(f"livo: {args.port} is no port: give 0 to 65535 with --port", file=sys.stderr)
        return 2
    try:
        port = usable_port(args.host, args.port)
    except OSError as error:
        print(
            f"livo: the page cannot be opened at {args.host}:{args.port} ({error.strerror}): give another port with "
            "--port, or --port 0 for any free one",
            file=sys.stderr,
        )
        return 2

    sys.setswitchinterval(0.001)  # answers of visitors, raters and classes are not to wait for the generator's thread
    from livo.ui.early import EarlyPage, early_html
    from livo.ui.memory import few_arenas

    few_arenas()
    early = EarlyPage(args.host, port, early_html())
    print(f"LiVO opens at port {port}: a stored comparison is there already, the model is loading", flush=True)

    from livo.ui.zero_gpu import prepare

    prepare()
    from starlette.middleware import Middleware
    from starlette.routing import Mount

    from livo.classifiers.choice import parse_judges
    from livo.study.web.serve import PREFIX, address_lines, build_sites, open_sites
    from livo.types import InputError
    from livo.ui.class_tries import draw_for_class
    from livo.ui.compare_tab import GENERATION
    from livo.ui.errors import speak_plainly
    from livo.ui.opening import DRAWN_WORLD, open_workbench, problems
    from livo.ui.page import build_page
    from livo.ui.preview import OwnPreview, own_routes
    from livo.ui.sessions import keep_little
    from livo.ui.stored import load_examples
    from livo.ui.study_tab import OpenStudy
    from livo.ui.take_along import Shelf, take_routes
    from livo.ui.theme import CSS, build_theme, head
    from livo.ui.waiting import BEGUN, keep_in_order
    from livo.ui.warming import warm_up
    from livo.web.door import Door
    from livo.web.guard import Buckets
    from livo.web.kept import KeptPages
    from livo.web.serve import harden, reach_of, shown_address
    from livo.workshop.web.serve import PREFIX as WORKSHOP
    from livo.workshop.web.serve import invitation_lines, open_workshop
    from livo.workshop.web.server import build_site
    from train.interactive.turns import LiveTrainings

    try:
        reach = reach_of(args.host, base_url=args.base_url, root_path=args.root_path, lan=args.lan)
        shown = shown_address(args.host, port, reach)
        parse_judges(args.judge)
        sites = open_sites(args.study, args.store, reach.base, allow_ephemeral=args.allow_ephemeral)
        workshop = open_workshop(args.rooms, shown if args.lan else reach.base)
    except InputError as error:
        print(f"livo: {error}", file=sys.stderr)
        return 2
    bench = open_workbench(args)
    for problem in problems(bench):
        print(f"livo: {problem}", file=sys.stderr)
    if args.backbone == DRAWN_WORLD:  # the lesson's words are the drawn world's
        methods = tuple(one["id"] for one in workshop.pack.trap["methods"])
        workshop.tries.draw = draw_for_class(bench, methods)
    studies = [OpenStudy(site.folder.study.title, f"{PREFIX.lstrip('/')}/{site.folder.name}/") for site in sites]
    trainer = LiveTrainings() if args.backbone == "miniature" else None  # its pairs are drawings of the drawn world
    shelf = Shelf()
    page = build_page(bench, load_examples(), studies, trainer, shelf)
    page.queue(max_size=WAITING_MOST, api_open=False)  # the queue is the only way in
    if bench.access.public:
        lent = bench.generate is not None  # which costs its minutes while a comparison gives way
        keep_in_order(page._queue, bench.turn, GENERATION, WAITING_MOST, FULL, 1 if lent else BEGUN)
    speak_plainly()
    keep_little()
    early.stop()
    application, _, _ = page.launch(
        server_name=args.host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        theme=build_theme(),
        css_paths=CSS,
        head=head(),
        footer_links=[],  # Gradio's own settings page has faults that axe finds
        run_history=False,
        mcp_server=True,
        show_error=True,
        state_session_capacity=VISITORS_KEPT,
        app_kwargs={
            "exception_handlers": {503: say_full, Exception: answer_anyway},
            "middleware": [Middleware(OwnPreview)],
        },
        ssr_mode=False,
        root_path=reach.root_path,
        share=False,
    )
    application.router.routes[:0] = [*own_routes(), *take_routes(shelf)]
    application.router.routes.insert(0, Mount(WORKSHOP, app=build_site(workshop)))
    application.router.routes.insert(
        0, Mount(PREFIX, app=build_sites(sites, reach.base, allow_ephemeral=args.allow_ephemeral))
    )  # before Gradio's own, which take any path
    asking = Buckets(*ASKING)
    rates = {f"/gradio_api/{path}": asking for path in ("queue/join", "call/", "mcp")} if bench.access.public else {}
    key = "" if args.school else secrets.token_urlsafe(18)
    page.server.config.loaded_app = KeptPages(page.server.config.loaded_app, FOR_EVERYBODY)
    if args.lan:  # a class is led to its room; the demo with its toxic stand-ins is the host's
        page.server.config.loaded_app = Door(
            page.server.config.loaded_app, (f"{WORKSHOP}/", f"{PREFIX}/"), f"{WORKSHOP}/join", key
        )
    harden(page.server, reach, REFUSED, rates, TOOLS)
    gc.collect()
    gc.freeze()  # what is there stays: later collections, which keep everybody waiting, look at what came since
    for site in sites:
        print("\n".join(address_lines(site.folder, f"{shown}{PREFIX}")), flush=True)
    if args.lan:
        print("\n".join(invitation_lines(shown, key)), flush=True)
    print(f"LiVO is open at {shown} (Ctrl+C stops it)", flush=True)
    threading.Thread(target=warm_up, args=(bench,), daemon=True).start()
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
