"""The lessons and the pack as they are shipped, and a served workshop whose rooms lie in a folder of the test."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from livo.workshop.lesson import load_lessons
from livo.workshop.pack import load_pack
from livo.workshop.rooms import Rooms
from livo.workshop.web.server import Workshop, build_site


@pytest.fixture(scope="session")
def lessons():
    return load_lessons()


@pytest.fixture(scope="session")
def pack():
    return load_pack()


@pytest.fixture
def workshop(tmp_path, lessons, pack):
    workshop = Workshop(lessons, pack, Rooms(tmp_path / "rooms", lessons, pack))
    yield workshop
    workshop.rooms.close()


@pytest.fixture
def client(workshop):
    return TestClient(build_site(workshop), raise_server_exceptions=False)
