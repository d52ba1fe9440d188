"""Many raters at once, a server that is killed, a generator at work: `python -m tests.rating_siege --help` measures it.

python -m tests.rating_siege --raters 200 --items 60             one server process, latency, all receipts in the store
python -m tests.rating_siege --raters 200 --items 20 --kills 20  the server is killed while they rate
python -m tests.rating_siege ... --busy                          beside a generator that works throughout
python -m tests.rating_siege ... --app --busy                    the same, in the demo's own process
python -m tests.rating_siege ... --postgres                      on PostgreSQL, started for the run
python -m tests.rating_siege ... --store postgresql+psycopg://HOST/NAME
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from raters import Server, account, free_port, make_folder, run_raters

from livo.web.events import default_url


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of its own in a folder, while the context lasts: its store's address.

    Raises:
        FileNotFoundError: Debian's package is not installed.
    """
    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    if programs is None:
        raise FileNotFoundError("PostgreSQL is not installed: apt install postgresql")
    who = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    home, port = folder / "postgres", free_port()
    home.mkdir()
    if who:  # it refuses to run as root
        folder.chmod(0o755)
        shutil.chown(home, "postgres", "postgres")
    quiet = {"cwd": "/", "stdout": subprocess.DEVNULL, "check": True}
    initialise = [*who, programs / "initdb", "-D", home / "data", "-U", "postgres", "--auth=trust", "-E", "UTF8"]
    subprocess.run(initialise, **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home}"
    control = [*who, programs / "pg_ctl", "-D", home / "data", "-w"]
    subprocess.run([*control, "-l", home / "log", "-o", options, "start"], **quiet)
    try:
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], **quiet)


def percentiles(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    p50, p95, p99 = (1000 * float(np.percentile(seconds, q)) for q in (50, 95, 99))
    return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, n = {len(seconds)}"


class Busy:
    """Comparisons one after another on the demo's own queue, until it is left."""

    def __init__(self, port: int) -> None:
        self.base, self.stop, self.done = f"http://127.0.0.1:{port}/gradio_api", False, 0

    def run(self) -> None:
        while not self.stop:  # the server may be killed at any moment, and is asked again
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                self._generate()
            time.sleep(0.2)

    def _generate(self) -> None:
        with urllib.request.urlopen(self.base.removesuffix("/gradio_api") + "/config") as response:
            config = json.load(response)
        index = next(i for i, d in enumerate(config["dependencies"]) if len(d["inputs"]) == 7)
        while not self.stop:
            session = uuid.uuid4().hex[:12]
            data = ["a photo of a doctor", "auto", "stable_diffusion,livo,uce", 0, 8, 20, 4.0]
            body = json.dumps({"data": data, "fn_index": index, "session_hash": session}).encode()
            request = urllib.request.Request(f"{self.base}/queue/join", body, {"content-type": "application/json"})
            urllib.request.urlopen(request).read()
            with urllib.request.urlopen(f"{self.base}/queue/data?session_hash={session}") as stream:
                for line in stream:
                    if b"process_completed" in line or self.stop:
                        self.done += b'"success":true' in line.replace(b" ", b"")
                        break


class Generator(Busy):
    """Comparisons one after another in a process of their own, until it is left."""

    def run(self) -> None:
        command = [sys.executable, "-m", "livo", "compare", "a photo of a doctor", "--seeds", "0-7", "--json"]
        while not self.stop:
            self.done += subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds before an answer (%(default)s)")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--every", type=float, default=6.0, help="mean seconds between kills (%(default)s)")
    parser.add_argument("--app", action="store_true", help="the demo's process serves the study")
    parser.add_argument("--busy", action="store_true", help="images are generated throughout")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--store")
    where.add_argument("--postgres", action="store_true", help="a PostgreSQL server is started for the run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        if args.postgres:
            args.store = stack.enter_context(postgres(Path(scratch)))
        folder = make_folder(
            Path(scratch) / "study", prompts=10, seeds=6, raters=args.raters, ratings_per_rater=args.items,
            questions=("consistency_5",), training=0, gold_every=0
        )  # fmt: skip
        port = free_port()
        server = Server(folder.path, port, app=args.app, store=args.store)
        try:
            server.wait()
            busy = Busy(port) if args.app else Generator(port)
            if args.busy:
                threading.Thread(target=busy.run, daemon=True).start()
                time.sleep(2)
            begun = time.monotonic()
            diary = asyncio.run(
                run_raters(folder, port, args.raters, args.items, args.think, server, args.kills, args.every)
            )
            seconds = time.monotonic() - begun
            busy.stop = True
        finally:
            server.kill()
        counts = account(folder, args.store or default_url(folder.path), diary)
        print(
            f"{args.raters} raters x {args.items} items in {seconds:.0f} s, {diary.kills} kills, "
            f"{busy.done} comparisons meanwhile"
        )
        print(", ".join(f"{name} {n}" for name, n in counts.items()))
        for kind, times in diary.seconds.items():
            print(f"{kind}: {percentiles(times)}")
    return int(bool(counts["lost"] or counts["doubled"] or counts["changed"] or counts["problems"]))


if __name__ == "__main__":
    sys.exit(main())
