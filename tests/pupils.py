"""A class that plays a room event by event, without a server; and a room of a test client."""

from __future__ import annotations

import secrets

from livo.web.events import Draft, Event
from livo.workshop.room import Room
from livo.workshop.view import room_json

NOW = "2999-01-01T00:00:00.000Z"


class Play:
    """A room that events are given to one by one, as the store would."""

    def __init__(self, lessons, pack, lesson="guess-the-set", school=True):
        self.room = Room({one.id: one for one in lessons})
        self.pack, self.events = pack, []
        self._add("room", "", {"lesson": lesson, "school": school, "secret": "x"})

    def _add(self, kind, actor, body):
        n = len(self.events)
        self.events.append(Event("w", 1, n + 1, actor, f"k{n}", kind, body, NOW, ""))
        self.room.fold(self.events)

    def act(self, act, **more):
        body = {"act": act, "at": self.room.changes, **more}
        self.room.check(Draft(1, "key", "act", body=body), self.pack)
        self._add("act", "", body)
        return self

    def answer(self, who, value, place=None):
        body = {"place": list(place or self.room.place), "value": value}
        self.room.check(Draft(1, "key", "answer", body, who), self.pack)
        self._add("answer", who, body)
        return self

    def seen(self, who=""):
        return room_json(self.room, self.pack, who)


class HttpRoom:
    """A room of a test client, with its facilitator and any number of students."""

    def __init__(self, client, lesson="guess-the-set", **more):
        self.client = client
        payload = client.post("/api/rooms", json={"lesson": lesson, **more}).json()
        self.code, self.secret, self.path = payload["code"], payload["secret"], f"/api/rooms/{payload['code']}"

    def host(self, path="/host", **more):
        return self.client.get(self.path + path, headers={"authorization": f"Bearer {self.secret}", **more})

    def act(self, act, **more):
        body = {"key": secrets.token_hex(8), "act": act, "at": self.host().json()["changes"], **more}
        return self.client.post(f"{self.path}/acts", json=body, headers={"authorization": f"Bearer {self.secret}"})

    def state(self, word="", etag=""):
        headers = {"authorization": f"Bearer {word}"} if word else {}
        return self.client.get(self.path, headers=headers | ({"if-none-match": etag} if etag else {}))

    def answer(self, word, value, key="", place=None):
        body = {"key": key or secrets.token_hex(8), "place": place or self.state().json()["place"], "value": value}
        return self.client.post(f"{self.path}/answers", json=body, headers={"authorization": f"Bearer {word}"})
