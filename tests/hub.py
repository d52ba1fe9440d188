"""A stand-in for the Hugging Face hub on this machine: what its client asks to upload, list and download in a dataset.

Files become part of the dataset by a commit alone, as on the hub. Not here: who may do what, and the hub's own Xet
storage (the client is told to use Git LFS, which the hub takes too).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """One dataset.

    Attributes:
        files: content by name, as the last commit has it.
        objects: what was uploaded, by its SHA-256, part of a commit or not.
        hold: while it is set, an upload is taken in and its answer waits until the client is gone.
        arrived: set when such an upload has begun.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    hold: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    commits: int = 0

    @property
    def revision(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    def commit(self, lines: list[dict]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]
        self.commits += 1


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """The stand-in, while the context lasts."""
    here = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers["content-length"] or 0))

        def answer(self, payload: object) -> None:
            self.send(json.dumps(payload).encode(), {"content-type": "application/json"})

        def send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_POST(self) -> None:
            body = self.body()
            if "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                self.answer({"files": [{"path": n, "uploadMode": "lfs", "shouldIgnore": False} for n in names]})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(body)["objects"]
                for one in objects:
                    one["actions"] = {"upload": {"href": f"{here.url}/object/{one['oid']}"}}
                self.answer({"transfer": "basic", "objects": objects})
            elif "/commit/" in self.path:
                here.commit([json.loads(line) for line in body.splitlines()])
                url = f"{here.url}/datasets/some/where/commit/{here.revision}"
                self.answer({"commitUrl": url, "commitOid": here.revision, "pullRequestUrl": None})
            else:
                self.send(b"", {}, 404)

        def do_PUT(self) -> None:
            if here.hold.is_set():
                self.rfile.read(100)
                here.arrived.set()
                while self.rfile.read(65_536):  # until whoever sends is gone
                    pass
                return
            data = self.body()
            here.objects[hashlib.sha256(data).hexdigest()] = data
            self.send(b"", {})

        def do_GET(self) -> None:
            name = self.path.rpartition("/resolve/main/")[2]
            if "/tree/main" in self.path:
                rows = [{"type": "file", "path": n, "size": len(d), "oid": "0"} for n, d in here.files.items()]
                self.answer(rows)
            elif name in here.files:
                digest = hashlib.sha256(here.files[name]).hexdigest()
                self.send(here.files[name], {"etag": f'"{digest}"', "x-repo-commit": here.revision})
            else:
                self.send(b"", {"x-error-code": "EntryNotFound"}, 404)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
