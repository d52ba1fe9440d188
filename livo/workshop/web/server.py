"""The workshop over HTTP: lessons for anyone, rooms by code, a facilitator by a secret that stands after a link's #.

/                              lessons, and the way into a room; join asks for its code alone
lesson/ID                      a lesson alone, without any room
print/ID/{guide,worksheet,key} for paper
room/CODE                      students; room/CODE/screen the projector; room/CODE/host the facilitator
api/rooms/CODE                 a room's state, with an ETag; `answers` and `acts` take one event; the receipt means that
                               it is durable; `tries` scores a prompt, as api/tries does for one alone
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from livo.web.bodies import Body, read_body
from livo.web.events import Draft, Refused
from livo.web.guard import Buckets, Guesses, Headers, asker, bearer, guarded
from livo.web.pages import page, serve_static, static_files
from livo.web.serve import qr_svg
from livo.workshop.lesson import Lesson
from livo.workshop.pack import Pack
from livo.workshop.printing import PAPERS, paper_html, recap_html
from livo.workshop.room import Room
from livo.workshop.rooms import Rooms, answer_draft, visitor_of
from livo.workshop.tallies import summary_rows
from livo.workshop.translations import Translations, speaker
from livo.workshop.traps import kept, read_prompt, result
from livo.workshop.tries import InLine, Tries
from livo.workshop.view import host_json, lesson_card, room_json, solo_json

HERE = Path(__file__).parent
STATIC = static_files(HERE)
JOINS = (60, 2.0)
"""Devices of one network whose first answer a room takes at once, and how many more a second."""
TRIES = (10, 2.0)
"""Questions for the score of a prompt that one visitor may ask at once, and how many more a second."""
TRIES_OF_NETWORK = (100, 10.0)
"""The same of one network, for those who do a lesson alone."""
PLACES_OF_NETWORK = 5
"""Its places in the line for the generator."""


class SentRoom(Body):
    """Which room to open."""

    lesson: str
    school: bool = True
    language: str = ""


class SentAnswer(Body):
    """One answer as a student's page sends it."""

    key: str
    place: list[int]
    value: Any


class SentTry(Body):
    """A prompt with which a pupil tries to break methods."""

    prompt: Annotated[str, StringConstraints(max_length=400)]


class FacilitatorAct(Body):
    """One act of the facilitator."""

    key: Annotated[str, StringConstraints(min_length=8, max_length=64)]
    act: str
    at: int | None = None
    lesson: str | None = None
    value: int | None = None


class Workshop:
    """The workshop's lessons and rooms, served.

    Args:
        base: address under which others reach this server, such as http://192.168.1.7:7860/workshop; the one that was
            asked for where it is empty.
        translations: lessons in other languages; a page asks for one with `?lang=de`.
    """

    def __init__(
        self,
        lessons: Sequence[Lesson],
        pack: Pack,
        rooms: Rooms,
        base: str = "",
        translations: Translations | None = None,
    ) -> None:
        self.lessons = {lesson.id: lesson for lesson in lessons}
        self.translations: Translations = translations or {}
        self.pack, self.rooms, self.base = pack, rooms, base
        self._guesses, self._joins = Guesses(), Buckets(*JOINS)
        self.tries = Tries(pack.trap)
        self._asked, self._asked_alone = Buckets(*TRIES), Buckets(*TRIES_OF_NETWORK)
        self._edition = hashlib.sha256(repr((lessons, pack.payload)).encode()).hexdigest()[:8]

    # --- lessons -----------------------------------------------------------------------------------------------------

    def _lesson(self, request: Request) -> Lesson:
        lesson = self.lessons.get(request.path_params["lesson"])
        if lesson is None:
            raise Refused(404, "no_lesson", f"there is no such lesson; there are: {', '.join(self.lessons)}")
        return lesson

    def list_lessons(self, request: Request) -> Response:
        """All lessons, as cards."""
        words = self._words(request)
        cards = [lesson_card(words.get(one.id, one)) for one in self.lessons.values()]
        return JSONResponse({"lessons": [card | {"languages": self._languages(card["id"])} for card in cards]})

    def _languages(self, id: str) -> list[str]:
        return [language for language, lessons in self.translations.items() if id in lessons]

    def lesson(self, request: Request) -> Response:
        """A whole lesson, for one alone; solo is in school mode too."""
        lesson = self._lesson(request)
        lesson = self._words(request).get(lesson.id, lesson)
        return JSONResponse(solo_json(lesson.for_room(school=True), self.pack))

    def _words(self, request: Request) -> Mapping[str, Lesson]:
        return self.translations.get(self._language(request), {})

    def _language(self, request: Request) -> str:
        asked = request.query_params.get("lang", "")
        return asked if asked in self.translations else ""

    def paper(self, request: Request) -> Response:
        """The facilitator guide, the worksheet or the answer key."""
        what = request.path_params["what"]
        if what not in PAPERS:
            raise Refused(404, "no_paper", f"there is no such paper; there are: {', '.join(PAPERS)}")
        lesson = self._lesson(request)
        return HTMLResponse(
            paper_html(
                what,
                self._words(request).get(lesson.id, lesson),
                self.pack,
                "../../static/print.css",
                "../../pictures/",
                language=self._language(request),
            )
        )

    def picture(self, request: Request) -> Response:
        """A sheet of the pack; there is no way to any other file."""
        name = request.path_params["name"]
        if name not in self.pack.sheets:
            raise Refused(404, "no_picture", "the pack has no such picture")
        return FileResponse(self.pack.folder / name, media_type="image/webp", headers={"cache-control": "max-age=3600"})

    # --- rooms -------------------------------------------------------------------------------------------------------

    async def open_room(self, request: Request) -> Response:
        """Opens a room for a lesson; the answer alone holds the facilitator's secret."""
        sent = await read_body(request, SentRoom)
        language = sent.language if sent.language in self.translations else ""
        code, secret = await asyncio.to_thread(self.rooms.open, sent.lesson, sent.school, asker(request), language)
        return JSONResponse({"code": code, "secret": secret})

    def state(self, request: Request) -> Response:
        """What a visitor sees, or the projector, who is none; 304 where nothing has changed since."""
        number, room = self._find(request)
        visitor = ""
        if word := bearer(request):
            visitor = visitor_of(_code(request), word)
            self.rooms.seen(number, visitor)
        words = self._words(request)
        edition = f"{self._edition}{self._language(request)}"
        mark = f'"{edition}.{room.changes}.{room.people[visitor]}.{room.over:d}"'
        if visitor == "":  # the projector counts answers
            mark = f'"{edition}.{room.seen}.{room.over:d}.{self.rooms.here(number)}"'
        if request.headers.get("if-none-match") == mark:
            return Response(status_code=304, headers={"etag": mark})
        with self.rooms.lock:
            payload = room_json(room, self.pack, visitor, words)
        if visitor == "":
            payload |= {
                "answered": len(room.answers_at(room.place)) + room.simulated,
                "here": self.rooms.here(number) + room.simulated,
                "join": self._join(request),
            }
        return JSONResponse(payload, headers={"etag": mark, "cache-control": "no-store"})

    async def answer(self, request: Request) -> Response:
        """Stores one answer and sends its receipt."""
        number, room = await asyncio.to_thread(self._find, request)
        sent = (await read_body(request, SentAnswer)).model_dump()
        if not room.over and room.step.ask and room.step.ask.kind == "prompt":
            sent["value"] = await asyncio.to_thread(self._try_of, room, sent["value"])
        draft = answer_draft(number, _code(request), bearer(request), sent)
        if room.locked and draft.actor not in room.people:  # before it uses up the allowance of the network
            raise Refused(403, "locked", "the room is locked, so that nobody new can answer: ask the facilitator")
        # A class behind one address comes at once; whoever fills the room instead is taken out, and after the next
        # "Let newcomers in" the class has its allowance anew.
        if draft.actor not in room.people and not self._joins.take(f"{asker(request)} {number} {room.let_in}"):
            raise Refused(429, "too_many_join", "many devices of your network joined just now: wait a few seconds")
        stored = await asyncio.wrap_future(self.rooms.submit(number, draft))
        return JSONResponse({"key": stored.key, "number": stored.number, "at": stored.at})

    def _try_of(self, room: Room, value: Any) -> dict[str, Any]:
        """What is stored of a prompt that was tried: not the prompt."""
        reading = read_prompt(value if isinstance(value, str) else "", school=room.school)
        if (found := self.tries.known(reading)) is None:
            raise Refused(409, "not_tried", "the pictures of this prompt are not there any more: try it again")
        return kept(self.pack.trap, found)

    async def try_in_room(self, request: Request) -> Response:
        """The score of a prompt, or its place in the line: a page asks again until the score is there."""
        _, room = await asyncio.to_thread(self._find, request)
        visitor = visitor_of(_code(request), bearer(request))
        if not self._asked.take(visitor):
            raise Refused(429, "too_fast", "these are more prompts than one person writes: wait a few seconds")
        if room.over or room.phase != "open" or room.step.ask is None or room.step.ask.kind != "prompt":
            raise Refused(409, "closed", "this question is closed")
        if visitor in room.removed or (room.locked and visitor not in room.people):
            raise Refused(403, "locked", "the room is locked, so that nobody new can answer: ask the facilitator")
        return await self._score(request, visitor, school=room.school)

    async def try_alone(self, request: Request) -> Response:
        """The same for one who does a lesson alone, in school mode."""
        if not self._asked_alone.take(asker(request)):
            raise Refused(429, "too_fast", "your network asks too often: wait a few seconds")
        place = sum(bearer(request).encode()) % PLACES_OF_NETWORK
        return await self._score(request, f"{asker(request)} {place}", school=True)

    async def _score(self, request: Request, who: str, *, school: bool) -> Response:
        sent = await read_body(request, SentTry)
        reading = await asyncio.to_thread(read_prompt, sent.prompt, school=school)
        found = self.tries.ask(reading, who)
        if isinstance(found, InLine):
            return JSONResponse(
                {"waiting": found.before, "seconds": round(found.seconds), "done": round(found.done, 2)}, 202
            )
        return JSONResponse(result(self.pack.trap, found))

    # --- the facilitator ---------------------------------------------------------------------------------------------

    def host(self, request: Request) -> Response:
        """All that the facilitator's page needs."""
        number, room = self._hosted(request)
        here = self.rooms.here(number)
        words = self._words(request)
        mark = f'"{self._edition}.{room.seen}.{room.over:d}.{here}.{bool(words):d}"'
        if request.headers.get("if-none-match") == mark:
            return Response(status_code=304, headers={"etag": mark})
        with self.rooms.lock:
            payload = host_json(room, self.pack, here, words) | {"join": self._join(request)}
        return JSONResponse(payload, headers={"etag": mark, "cache-control": "no-store"})

    async def act(self, request: Request) -> Response:
        """Stores one act of the facilitator."""
        number, _ = await asyncio.to_thread(self._hosted, request)
        sent = await read_body(request, FacilitatorAct)
        body = sent.model_dump(exclude={"key"}, exclude_none=True)
        stored = await asyncio.wrap_future(self.rooms.submit(number, Draft(number, sent.key, "act", body)))
        return JSONResponse({"key": stored.key, "number": stored.number, "at": stored.at})

    def summary(self, request: Request) -> Response:
        """What the class answered, as CSV; counts only."""
        _, room = self._hosted(request)
        with self.rooms.lock:
            rows = summary_rows(room, self.pack, self._words(request), speaker(self._language(request)))
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        return Response(out.getvalue(), media_type="text/csv", headers={"cache-control": "no-store"})

    def recap(self, request: Request) -> Response:
        """The same as a page for the class, with the pictures that it saw."""
        _, room = self._hosted(request)
        with self.rooms.lock:
            html = recap_html(room, self.pack, self._words(request), self._language(request))
        return HTMLResponse(html, headers={"cache-control": "no-store"})

    def qr(self, request: Request) -> Response:
        """The QR code of the room's address."""
        self._find(request)
        return Response(qr_svg(self._join(request)), media_type="image/svg+xml", headers={"cache-control": "no-store"})

    def _find(self, request: Request) -> tuple[int, Room]:
        who, code = asker(request), _code(request)
        self._guesses.check(who, code)
        try:
            found = self.rooms.find(code)
        except Refused:
            self._guesses.wrong(who)
            raise
        self._guesses.right(who, code)
        return found

    def _hosted(self, request: Request) -> tuple[int, Room]:
        number, room = self._find(request)
        try:
            self.rooms.check_secret(room, bearer(request))
        except Refused:
            self._guesses.wrong(asker(request))
            raise
        return number, room

    def _join(self, request: Request) -> str:
        language = self._language(request)
        asked = f"?lang={language}" if language else ""
        return f"{self.base or str(request.url).split('/api/')[0]}/room/{_code(request)}{asked}"

    def routes(self) -> list[Route]:
        """Everything under the workshop's prefix."""
        room = "/api/rooms/{code}"
        return [
            Route("/", page("index", "LiVO workshop", style="workshop")),
            Route("/join", page("join", "Join", style="workshop")),
            Route("/lesson/{lesson}", page("solo", "Lesson", style="workshop")),
            Route("/print/{lesson}/{what}", guarded(self.paper)),
            Route("/room/{code}", page("room", "Workshop room", style="workshop")),
            Route("/room/{code}/screen", page("screen", "Workshop room", style="projector")),
            Route("/room/{code}/host", page("host", "Facilitator", style="workshop")),
            Route("/static/{name}", serve_static(STATIC)),
            Route("/pictures/{name}", guarded(self.picture)),
            Route("/api/lessons", guarded(self.list_lessons)),
            Route("/api/lessons/{lesson}", guarded(self.lesson)),
            Route("/api/tries", guarded(self.try_alone), methods=["POST"]),
            Route("/api/rooms", guarded(self.open_room), methods=["POST"]),
            Route(room, guarded(self.state)),
            Route(f"{room}/answers", guarded(self.answer), methods=["POST"]),
            Route(f"{room}/tries", guarded(self.try_in_room), methods=["POST"]),
            Route(f"{room}/host", guarded(self.host)),
            Route(f"{room}/acts", guarded(self.act), methods=["POST"]),
            Route(f"{room}/summary.csv", guarded(self.summary)),
            Route(f"{room}/recap.html", guarded(self.recap)),
            Route(f"{room}/qr.svg", guarded(self.qr)),
        ]


def build_site(workshop: Workshop) -> Starlette:
    """The application, to be mounted or served alone."""
    return Starlette(routes=workshop.routes(), middleware=[Middleware(Headers)])


def _code(request: Request) -> str:
    return request.path_params["code"].upper().replace(" ", "").replace("-", "")
