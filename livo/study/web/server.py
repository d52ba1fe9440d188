"""Rating pages over HTTP: who holds a rater's code sees that rater's trials, and nothing tells what made an image.

NAME/                      the page of raters; the code stands behind the # of their link and never in a log
NAME/api/session           where the rater is, and what is to be done
NAME/api/events            one event in, a receipt out once it is durable
NAME/api/image/TRIAL/SIDE  an image; its veil, as long as a covered one was not revealed
NAME/organise              the organiser's page; NAME/api/organise/... behind the organiser's key
"""

from __future__ import annotations

import asyncio
import hmac
import io
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from livo.study.answers import read_answers
from livo.study.design import TRAINING
from livo.study.organise import links_for_all, live_status, rater_links, withdraw
from livo.study.places import LONGEST_PARAMETER, Places, ending_of, is_screened_out, is_training_open, outcome_of
from livo.study.preregistration import note_corrections
from livo.study.quality import RULES, quality_of
from livo.study.session import RaterProgress, Sessions, is_paused, is_right, question_of, trial_of
from livo.study.study_file import LANGUAGES, StudyFolder
from livo.study.vault import Vault
from livo.study.web.create import Maker
from livo.study.web.shown import content_of, example_json, trial_json, words_of
from livo.web.bodies import Body, read_body
from livo.web.events import ORGANISER, WITHDRAWN, Draft, Event, Refused, Store
from livo.web.guard import Buckets, Guesses, Headers, asker, bearer, guarded
from livo.web.pages import page, serve_static, static_files
from livo.web.serve import qr_svg

HERE = Path(__file__).parent
STATIC = static_files(HERE)
WORDS = {f"{name}.json": HERE / "languages" / f"{name}.json" for name in LANGUAGES}
LARGEST_STUDY = 65_536
EVENTS = (60, 8.0)
"""Events that a rater may send at once, and how many more a second."""
ARRIVALS = (60, 1.0)
"""The same for people who come by the one link for all from one address; a whole class may share one."""
CONTROL_SECONDS = 0.5
"""How long a pause from another process may take to arrive."""
VERIFY_SECONDS = 30.0
"""How often an open organiser's page has the whole store verified."""


Name = Annotated[str, StringConstraints(max_length=64)]


class SentEvent(Body):
    """One event as a rater's page sends it."""

    key: Name
    kind: Name
    trial: Name = ""
    question: Name = ""
    body: dict[str, Any] = Field(default_factory=dict)

    def draft(self, rater: int) -> Draft:
        """The event as the store takes it."""
        if {"trial", "question"} & self.body.keys():
            raise Refused(422, "bad_event", "a trial and a question stand beside the body, not in it")
        about = {name: value for name in ("trial", "question") if (value := getattr(self, name))}
        return Draft(rater, self.key, self.kind, {**self.body, **about})


class OrganiserAct(Body):
    """What an organiser does: one of the acts, on a rater, or with the texts of a new study."""

    act: Literal["create", "pause", "resume", "withdraw", "erase"]
    rater: int | None = None
    prompts: str = ""
    title: str = ""
    methods: str = ""
    seeds: str = ""
    questions: str = ""
    raters: str = ""
    ratings: str = ""
    pairs: str = ""
    contact: str = ""


class SentArrival(Body):
    """Whoever comes by the one link for all: what the link says, and a random word of the browser."""

    parameters: dict[str, Annotated[str, StringConstraints(max_length=LONGEST_PARAMETER)]] = Field(default_factory=dict)
    visitor: Name = ""


class StudySite:
    """One study, served: its folder, its sessions and its store.

    Args:
        base: address of the studies for others, such as https://example.org/study; "" for the one that was asked for.
        vault: makes encrypted copies while the study is open.
    """

    def __init__(self, folder: StudyFolder, store: Store, base: str = "", vault: Vault | None = None) -> None:
        store.check_frozen()
        note_corrections(folder, store)
        self.folder, self.store, self.sessions, self.base = folder, store, Sessions(folder), base
        self.places = Places(folder, store, self.sessions)
        self.vault = vault
        self.maker: Maker | None = None
        self._guesses, self._events, self._arrivals = Guesses(), Buckets(*EVENTS), Buckets(*ARRIVALS)
        self._control: tuple[float, bool] = (0.0, False)
        self._verified: tuple[float, list[str]] = (float("-inf"), [])
        self._quality: list[dict[str, Any]] = []
        self.sessions.plan(0)  # a study that cannot be planned must not open

    def close(self) -> None:
        """Makes a last copy, writes what waits, and ends."""
        if self.vault:
            self.vault.close()
        self.store.close()

    @property
    def paused(self) -> bool:
        """Whether the organiser has paused the study, a moment ago."""
        at, paused = self._control
        if time.monotonic() - at > CONTROL_SECONDS:
            paused = is_paused(self.store.events(ORGANISER))
            self._control = (time.monotonic(), paused)
        return paused

    def control(self, kind: str) -> None:
        """Pauses or resumes."""
        self.store.append(Draft(ORGANISER, f"control-{time.time_ns()}", kind))
        self._control = (0.0, False)

    # --- raters ------------------------------------------------------------------------------------------------------

    def rater(self, request: Request) -> int:
        """Who asks.

        Raises:
            Refused: the code is nobody's.
        """
        who, code = asker(request), bearer(request)
        self._guesses.check(who, code)
        rater = self.folder.rater_of(code)
        if rater is None:
            self._guesses.wrong(who)
            raise Refused(401, "no_code", "nobody has this code; check it, or ask the organiser for another")
        self._guesses.right(who, code)
        return rater

    async def arrive(self, request: Request) -> Response:
        """The code of whoever comes by the one link for all: the same for the same person."""
        sent = await read_body(request, SentArrival)
        if not self._arrivals.take(asker(request)):
            raise Refused(429, "too_fast", "many people came from here a moment ago: wait a few seconds")
        if self.paused:
            raise Refused(423, "paused", "the organiser has paused the study: come back later")
        rater = await asyncio.to_thread(self.places.arrive, sent.parameters, sent.visitor)
        return JSONResponse({"code": self.folder.code(rater)})

    def session(self, request: Request) -> Response:
        """All that the rater's page needs, the images aside."""
        rater, study = self.rater(request), self.folder.study
        events = self.store.events(rater)
        now = self.sessions.progress(rater, events)
        payload: dict[str, Any] = {
            "study": {
                "title": study.title, "description": study.description, "contact": study.contact,
                "credit": study.credit, "ethics": study.ethics, "support": dict(study.support),
                "languages": list(study.languages),
                "break_items": study.break_items, "break_minutes": study.break_minutes, "mood": study.mood,
                "version": self.folder.digest, "parameters": list(study.parameters),
                "instructions": study.instructions, "synthetic": study.synthetic,
                "words": words_of((*study.asked, *study.asked_of_raters)),
                "demographics": [
                    {"id": q.id, "kind": q.kind, "values": list(q.allowed()), "longest": q.longest}
                    for q in study.asked_of_raters
                ],
            },
            "content": content_of(self.folder),
            "paused": self.paused,
            "consented": now.consented,
            "language": now.language,
            "opted_out": sorted(now.opted_out | now.hidden),
            "stopped": now.stopped,
            "withdrawn": now.withdrawn,
        }  # fmt: skip
        if now.consented and not now.withdrawn:
            payload |= self._plan_json(rater, now)
            ending = ending_of(self.folder, rater, outcome_of(self.sessions, rater, now))
            payload["ending"] = ending.to_json() if ending else None
        return JSONResponse(payload)

    def _plan_json(self, rater: int, now: RaterProgress) -> dict[str, Any]:
        plan = self.sessions.plan(rater, now.opted_out)
        return {
            "reversed": plan.reversed,
            "examples": [example_json(self.folder, trial) for trial in plan.examples],
            "told": now.demographics is not None,
            "trials": [trial_json(self.folder, trial) for trial in plan.trials],
            "answers": [[token, question, event.body["value"]] for (token, question), event in now.answers.items()],
            "settled": [
                [trial.token, question]
                for trial in plan.trials if trial.kind == TRAINING
                for question in trial.questions if now.answered(trial, question, self.folder)
            ],
            "skipped": list(now.skipped),
            "revealed": sorted(now.revealed),
            "acts": [[event.key, trial_of(event), question_of(event)] for event in now.acts],
        }  # fmt: skip

    async def event(self, request: Request) -> Response:
        """Stores one event and answers with its receipt."""
        rater = self.rater(request)
        draft = (await read_body(request, SentEvent)).draft(rater)
        if not self._events.take(str(rater)):
            raise Refused(429, "too_fast", "these are more answers than one person gives: wait a few seconds")
        if self.paused:
            raise Refused(423, "paused", "the organiser has paused the study; your answers wait in this browser")
        stored = await asyncio.wrap_future(self.store.submit(draft, self._check))
        receipt = {"key": stored.key, "number": stored.number, "at": stored.at, "digest": stored.digest[:12]}
        if stored.kind == "answer" and (feedback := self._feedback(stored)):
            receipt["feedback"] = feedback
        return JSONResponse(receipt)

    def _check(self, draft: Draft, before: Sequence[Event]) -> None:
        self.sessions.check(draft, before)
        now = self.sessions.progress(draft.stream, before)
        if draft.kind not in ("answer", "skip", "reveal"):
            return
        if is_screened_out(self.sessions, draft.stream, now):
            raise Refused(409, "screened_out", "the training was not passed; there is nothing more to rate")
        trial = self.sessions.trials(draft.stream, now.opted_out)[trial_of(draft)]
        if trial.kind != TRAINING and is_training_open(self.sessions, draft.stream, now):
            raise Refused(409, "training_first", "the practice comes first")

    def _feedback(self, event: Event) -> dict[str, Any] | None:
        now = self.sessions.progress(event.stream, self.store.latest(event.stream))
        trial = self.sessions.trials(event.stream, now.opted_out).get(trial_of(event))
        if trial is None or trial.kind != TRAINING:
            return None
        item = self.folder.items[trial.items[0]]
        return {
            "right": is_right(trial, question_of(event), event.body["value"], self.folder),
            "settled": now.answered(trial, question_of(event), self.folder),
            "expected": list(item.expected[question_of(event)]),
            "explanation": item.explanation,
        }

    def image(self, request: Request) -> Response:
        """An image of one of the rater's trials; the clear form of a covered one, once its reveal was stored."""
        rater = self.rater(request)
        now = self.sessions.progress(rater, self.store.latest(rater))
        token = request.path_params["trial"]
        examples = {trial.token: trial for trial in self.sessions.plan(rater, now.opted_out).examples}
        trial = self.sessions.trials(rater, now.opted_out).get(token) or examples.get(token)
        side = request.path_params["side"]
        if trial is None or side >= len(trial.items) or not now.consented or now.withdrawn:
            raise Refused(403, "not_yours", "this is no image of this rater's trials")
        veiled = bool(trial.category) and trial.token not in now.revealed
        path = self.folder.image_path(self.folder.items[trial.items[side]], veiled=veiled)
        return Response(
            path.read_bytes(),
            media_type="image/png",
            headers={"cache-control": "no-store", "x-veiled": str(int(veiled))},
        )

    # --- the organiser -----------------------------------------------------------------------------------------------

    def _organiser(self, request: Request) -> None:
        who, key = asker(request), bearer(request)
        self._guesses.check(who, key)
        if not hmac.compare_digest(key, self.folder.organiser_key):
            self._guesses.wrong(who)
            raise Refused(401, "no_key", "this is not the organiser's key: open the link that `study serve` printed")
        self._guesses.right(who, key)

    def _base(self, request: Request) -> str:
        return self.base or str(request.url).split(f"/{self.folder.name}/api/")[0]

    def status(self, request: Request) -> Response:
        """Live progress, the links of the raters, and what is wrong with the store, if anything."""
        self._organiser(request)
        if time.monotonic() - self._verified[0] > VERIFY_SECONDS:
            self._verified = (time.monotonic(), self.store.verify())
            found = quality_of(read_answers(self.folder, self.store)).values()
            self._quality = [asdict(one) for one in found]
        problems = [*self._verified[1], *([self.vault.problem] if self.vault and self.vault.problem else [])]
        payload = live_status(self.folder, self.store, self.sessions, problems) | {
            "links": rater_links(self.folder, self._base(request)),
            "links_for_all": links_for_all(self.folder, self._base(request)),
            "quality": self._quality,
            "rules": [
                {"id": rule, "meaning": text, "chosen": rule in self.folder.study.exclude}
                for rule, text in RULES.items()
            ],
        }
        return JSONResponse(payload | {"paused": self.paused, "making": self.maker.state if self.maker else None})

    async def organise(self, request: Request) -> Response:
        """Pause, resume, withdraw; make a new study."""
        self._organiser(request)
        sent = await read_body(request, OrganiserAct, LARGEST_STUDY)
        if sent.act == "create" and self.maker:
            self.maker.start(sent.model_dump(exclude={"act", "rater"}))
        elif sent.act in ("pause", "resume"):
            await asyncio.to_thread(self.control, sent.act)
        elif sent.act in (WITHDRAWN, "erase") and sent.rater is not None and 0 <= sent.rater < self.folder.study.places:
            await asyncio.to_thread(withdraw, self.store, sent.rater, erase=sent.act == "erase")
        else:
            raise Refused(422, "bad_act", "an organiser can pause, resume, withdraw or erase a rater")
        return JSONResponse({"done": sent.act})

    def qr(self, request: Request) -> Response:
        """The QR code of a rater's link."""
        self._organiser(request)
        rater = request.path_params["rater"]
        links = rater_links(self.folder, self._base(request))
        if rater >= len(links):
            raise Refused(404, "no_rater", f"there are {len(links)} links of raters")
        return Response(qr_svg(links[rater]["link"]), media_type="image/svg+xml")

    def exports(self, request: Request) -> Response:
        """Report and exports, as one ZIP."""
        self._organiser(request)
        from livo.study.export import export_files
        from livo.study.report import report_files

        files = export_files(self.folder, self.store) | report_files(self.folder, self.store)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return Response(buffer.getvalue(), media_type="application/zip", headers={"cache-control": "no-store"})

    def report(self, request: Request) -> Response:
        """The report as a page of its own."""
        self._organiser(request)
        from livo.study.report import report_files

        return HTMLResponse(report_files(self.folder, self.store)["report.html"], headers={"cache-control": "no-store"})

    # --- files -------------------------------------------------------------------------------------------------------

    def routes(self) -> Sequence[Route]:
        """Everything under the study's name."""
        return (
            Route("/", page("rate", "Rating pictures", style="study", template="rate.html")),
            Route("/organise", page("organise", "Organise a study", style="study")),
            Route("/static/{name}", serve_static(STATIC)),
            Route("/languages/{name}", serve_static(WORDS)),
            Route("/api/arrive", guarded(self.arrive), methods=["POST"]),
            Route("/api/session", guarded(self.session)),
            Route("/api/events", guarded(self.event), methods=["POST"]),
            Route("/api/image/{trial}/{side:int}", guarded(self.image)),
            Route("/api/organise/status", guarded(self.status)),
            Route("/api/organise/qr/{rater:int}", guarded(self.qr)),
            Route("/api/organise/act", guarded(self.organise), methods=["POST"]),
            Route("/api/organise/exports.zip", guarded(self.exports)),
            Route("/api/organise/report", guarded(self.report)),
        )


def build_site(sites: Sequence[StudySite], reopen: Callable[[Path], StudySite] | None = None) -> Starlette:
    """The application: every study under its opaque name; nothing lists them.

    Args:
        reopen: opens a new study's folder; without it organisers make studies from the command line only.
    """
    app = Starlette(middleware=[Middleware(Headers)])

    def add(site: StudySite) -> str:
        name = site.folder.name
        if reopen:
            site.maker = Maker(site.folder.path.resolve().parent, lambda path: add(reopen(path)))
        app.router.routes += [Route(f"/{name}", _to_folder), Mount(f"/{name}", routes=list(site.routes()))]
        return f"../{name}/organise#{site.folder.organiser_key}"

    for site in sites:
        add(site)
    return app


def _to_folder(request: Request) -> Response:
    name = request.url.path.rsplit("/", 1)[-1]
    return RedirectResponse(f"{name}/", status_code=308)  # relative: a proxy may have cut what stands before
