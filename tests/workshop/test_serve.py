"""Opening the workshop: the address in the network, its QR code, a store that cannot be written, `app.py --lan`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from students import ROOT, Server, ask, free_port

from livo.types import InputError
from livo.workshop.web import serve


def test_the_terminal_shows_the_address_and_its_code():
    code, join, demo, rooms = serve.invitation_lines("http://192.168.1.7:7860", "k")
    assert join.endswith("http://192.168.1.7:7860/") and code.count("\n") > 10 and re.search("[█▀▄]", code)
    assert demo.endswith("/?host=k") and rooms.endswith("http://192.168.1.7:7860/workshop/")
    assert len(serve.invitation_lines("http://192.168.1.7:7860")) == 3, "with --school there is no link to the demo"


def test_rooms_join_by_the_address_that_others_can_reach(tmp_path):
    workshop = serve.open_workshop(tmp_path, "http://192.168.1.7:7860")
    assert workshop.base == "http://192.168.1.7:7860/workshop"
    workshop.rooms.close()


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--rooms"):
        serve.open_workshop(tmp_path / "file" / "rooms")


def test_without_a_place_for_rooms_there_is_one_that_is_announced(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(serve, "ROOMS", tmp_path / "file" / "rooms")
    workshop = serve.open_workshop()
    workshop.rooms.close()
    assert "--rooms FOLDER" in capsys.readouterr().err


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path):
    """SIGKILL in the middle of a question; the same rooms from the same folder, tallied as if nothing had been."""
    import secrets

    server = Server(tmp_path / "rooms", free_port())
    try:
        server.wait()
        room = ask(server.base, "rooms", {"lesson": "guess-the-set"})
        path = f"rooms/{room['code']}"

        def act(name: str) -> None:
            at = ask(server.base, f"{path}/host", word=room["secret"])["changes"]
            ask(server.base, f"{path}/acts", {"key": secrets.token_hex(8), "act": name, "at": at}, room["secret"])

        act("start")
        words = [secrets.token_hex(16) for _ in range(9)]
        for i, word in enumerate(words):
            if i in (3, 6):
                server.kill()
                server.start()
                server.wait()
            body = {"key": f"answer-{i:04d}", "place": [1, 0, 0], "value": i}
            assert ask(server.base, f"{path}/answers", body, word)["key"] == body["key"]
        server.kill()
        server.start()
        server.wait()
        again = {"key": "answer-0000", "place": [1, 0, 0], "value": 0}
        assert ask(server.base, f"{path}/answers", again, words[0])["number"] == 3, "sent again: the same receipt"
        act("close")
        payload = ask(server.base, path, word=words[4])
        assert payload["tally"]["n"] == 9 and payload["tally"]["median"] == 4 and payload["mine"] == 4
    finally:
        server.kill()


def test_a_port_that_is_taken_is_a_message(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [
            sys.executable,
            "-m",
            "livo",
            "workshop",
            "serve",
            "--port",
            str(taken.getsockname()[1]),
            "--rooms",
            str(tmp_path),
        ]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2 and "--port" in done.stderr and "Traceback" not in done.stderr


def test_the_commands_print_and_check(tmp_path: Path):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "livo", "workshop", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    done = run("print", "two-rulers", "--out", str(tmp_path))
    assert done.returncode == 0 and len(list(tmp_path.glob("two-rulers-*.html"))) == 3
    assert "there are: guess-the-set" in run("print", "none").stderr
    assert "two-rulers" in run("check").stdout
