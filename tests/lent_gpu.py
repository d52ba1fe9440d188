"""Run as a program: the page's parts under the real `spaces`, where GPUs are lent, on a machine that has none.

A server of this program stands in for the service that lends them, and a lent GPU's memory is the CPU's: what `spaces`
does besides, its emulation of CUDA, its processes and its queues, is its own. It patches all of torch, so no test can
call it in its own process. Prints one JSON object.

    python tests/lent_gpu.py BACKBONE
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

GPU = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"}
NOTHING_LEFT = {"left": 2, "wait": "PT3H20M"}


class Service(BaseHTTPRequestHandler):
    """Lends a GPU whenever it is asked, until the visitor's time is used up."""

    calls: ClassVar[list[tuple[str, dict[str, str]]]] = []
    used_up = False

    def do_POST(self) -> None:
        url = urlparse(self.path)
        self.calls.append((url.path, {key: values[0] for key, values in parse_qs(url.query).items()}))
        refused = url.path == "/schedule" and self.used_up
        body = json.dumps(NOTHING_LEFT if refused else GPU).encode()
        self.send_response(429 if refused else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Standard output is for the answer."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service = f"http://127.0.0.1:{server.server_port}"
    os.environ |= {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": service}

    import app
    from livo.ui import opening

    arguments = ["--backbone", sys.argv[1], "--dtype", "float32", "--port", "0"]
    opened, opening.open_workbench = opening.open_workbench, lambda args: answer(args, opened)  # as late as app.py does
    app.main(arguments)


def answer(args: argparse.Namespace, opened: Any) -> Any:
    """Everything that is asked of the page's parts, in place of a page."""
    from livo.compare.comparison import Comparison, make_request
    from livo.types import SamplingOptions
    from livo.ui.serving import Notice, serve

    bench = opened(args)
    assert bench.engine is not None, bench.problem
    args.backbone = "miniature"
    drawn = opened(args)
    assert drawn.engine is not None

    import spaces.zero.torch as lent

    def stay(callback: object = None) -> None:
        for fake, original in lent._patching.cuda_aliases.items():
            fake.data = original

    lent.init, lent.move = lambda uuid: None, stay

    options = SamplingOptions((0, 1), 3, 5.0, 16, 16)
    request = make_request("a photo of a doctor", ["stable_diffusion", "fair_diffusion"], options)
    *steps, made = serve(bench, request)
    assert isinstance(made, Comparison)
    pictures = {id: result.images for id, result in made.methods.items() if result.images is not None}
    Service.used_up = True
    notice, *_, instead = serve(bench, request)
    assert isinstance(notice, Notice) and isinstance(instead, Comparison)
    found = {
        "device": str(bench.engine.backbone.device),
        "drawn": str(drawn.engine.backbone.device),
        "steps": len(steps),
        "pictures": {id: images.tolist() for id, images in pictures.items()},
        "calls": Service.calls,
        "notice": notice.text,
        "instead": instead.backbone,
    }
    print(json.dumps(found), flush=True)
    for child in multiprocessing.active_children():  # it has our standard output, for which the caller waits
        child.kill()
    os._exit(0)  # before the page opens


if __name__ == "__main__":
    main()
