"""The page before the models are there: a small server that shows a stored comparison until the page proper takes over.

    early = EarlyPage(host, port, early_html(args.backbone))
    ...                                       # torch, Gradio and the models are imported and loaded meanwhile
    early.stop()                              # and the page proper listens at the same address

Nothing here imports torch or Gradio. The visitor's browser asks every moment whether the page is there, and reloads.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from markupsafe import Markup

from livo.ui.comparison_view import example_html
from livo.ui.files import CSS, SCRIPTS
from livo.ui.preview import TITLE, preview_html
from livo.ui.stored import load_examples
from livo.ui.templates import render

TABS = ("Compare", "Train your own", "Learn", "The drawn world", "Results", "Human evaluation")
LOADING = "the model is loading, Compare works in a moment"


def early_html(address: str = "") -> str:
    """The page with the first stored comparison, or with the word about the loading alone where none is stored.

    Args:
        address: the page's own, for the pictures of links to it; empty where it is not known.
    """
    examples = load_examples()
    card, status, rows = example_html(examples[0], remark=LOADING) if examples else (Markup(),) * 3
    return render(
        "early.html",
        title=TITLE,
        preview=preview_html(address),
        css=Markup(CSS.read_text(encoding="utf-8")),
        scripts=[Markup(path.read_text(encoding="utf-8")) for path in SCRIPTS],
        masthead=render("masthead.html", drawn=True, name="", languages=()),
        tabs=TABS,
        prompt=examples[0].record.prompt if examples else "",
        card=card,
        status=status,
        rows=rows,
    )


class EarlyPage:
    """Serves one page at "/" and says "in a moment" (503) to all else, from a thread, until it is stopped.

    Raises:
        OSError: the address is in use.
    """

    def __init__(self, host: str, port: int, html: str) -> None:
        body = html.encode()

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds for a visitor to finish asking
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                found = self.path.split("?")[0] == "/"
                self.send_response(HTTPStatus.OK if found else HTTPStatus.SERVICE_UNAVAILABLE)
                self.send_header("Content-Type", "text/html; charset=utf-8" if found else "text/plain; charset=utf-8")
                self.send_header("Cache-Control", "no-store")
                self.send_header("Retry-After", "1")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body if found else b"the page opens in a moment")

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Visitors are not written down."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A visitor who went away is no error."""

        self._server = Server((host, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Frees the address."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
