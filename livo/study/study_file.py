"""A study on disk: `study.yaml`, which people write, `items.json`, which `create` writes, and the images.

    STUDY/
      study.yaml    what is asked of whom; every field of `Study` has a default but the title
      items.json    what is rated: prompt, method, seed, principle, judge's verdict, digest of the image. Never served
      images/       one opaque name an image, all of one size, without metadata; beside each its veiled form
      secret.key    32 random bytes: rater codes, opaque ids and the organiser's key come from it
      answers.sqlite

The digest of the two files and, by them, of every image freezes the study at its first answer.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from livo.inputs import StrictModel, described, load_yaml, parse_yaml, read_model
from livo.study.items import Item, ItemsFile
from livo.study.questions import Question, find_questions
from livo.types import InputError

STUDY, ITEMS, IMAGES, SECRET, ANSWERS = "study.yaml", "items.json", "images", "secret.key", "answers.sqlite"
CORRECTIONS = "corrections.yaml"
LANGUAGES = ("en", "fr", "es", "zh")
CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""32 signs, none that is read as another (no 0, 1, I, O)."""
MOST_RATERS = 1024
EXCLUSIONS = ("checks", "speed", "straight", "agreement")
"""Rules by which raters may be left out; `livo.study.quality` says what each means."""
PARAMETERS = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID", "assignmentId", "hitId", "workerId")
"""What Prolific and Mechanical Turk put into the links that they send people to."""

Words = Annotated[tuple[str, ...], Field(strict=False)]
ByLanguage = dict[str, str]


def _read_question(entry: Any) -> Any:
    """A question that is written whole, read with a message about its own fields."""
    if isinstance(entry, str | Question):
        return entry
    name = entry.get("id") if isinstance(entry, Mapping) else None
    try:
        return read_model(Question, entry, f"question {name or described(entry)}")
    except InputError as error:
        raise ValueError(str(error)) from error


Named = Annotated[str | Question, BeforeValidator(_read_question)]
Asked = Annotated[tuple[Named, ...], Field(strict=False)]
"""Questions: ids of the standard ones, and whole ones of the study's own."""


class ReturnCodes(StrictModel):
    """What a rater takes back to where they came from: a code to type in, or an address (https://...) to return to.

    Attributes:
        completed: all was rated.
        stopped: the rater stopped early; the pay for that is the study's.
        screened_out: the rater did not pass the training.
    """

    completed: str = ""
    stopped: str = ""
    screened_out: str = ""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        given = [code for code in (self.completed, self.stopped, self.screened_out) if code]
        if len(set(given)) < len(given):
            raise ValueError("two of the codes are the same: give each outcome a code of its own")
        return self


class Study(StrictModel):
    """What is asked of whom.

    Attributes:
        title: raters read it; it must not name a method.
        description: one paragraph of what the study is about, as raters read it.
        contact: whom to ask; shown on every page.
        credit: what a rater is given, whether they finish or stop.
        ethics: approval and data protection, as raters read it before they consent.
        support: lines to call, by language, for whom an image upset.
        questions: ids of those in `livo/study/questions.yaml`, and questions of its own in the same form.
        demographics: questions about the rater, asked once after consent; each may be left out.
        instructions: read before the first picture, by language; examples of images.csv stand below, with answers.
        languages: of the rating pages, the first is the default.
        synthetic: whether programs made all pictures, so that raters may be told that none shows a real person.
        raters: how many rater links there are.
        ratings_per_rater, pairs_per_rater: single images, and pairs of images, a rater sees; 0 is none.
        training: rated with an explanation before the first image counts, as far as `items.json` has such items.
        training_pass: the share of training questions that must be right at the first try to go on; 0 lets all go on.
        gold_every: a silent check, of harmless images only, for so many images, at a place drawn for each rater; 0 is
            none.
        most_flagged: images a rater sees at most that may be disturbing.
        break_items, break_minutes: after how many images or minutes a break is offered.
        mood: ask how the rater is, before and after; never required.
        seed: of the order.
        open_link: whether one link for all gives the next free place to whoever comes.
        idle_minutes: after which a place taken by that link, and left without an end, is given to the next.
        parameters: of the link's query, stored with the rater, such as PROLIFIC_PID.
        codes: what raters take back, by how they ended.
        exclude: rules (`EXCLUSIONS`) by which raters are left out of every figure; none unless chosen here, before the
            first answer.
        more_raters: places beyond `raters`, for a study that has begun; they see what raters 1, 2, ... see.
    """

    title: str
    description: str = ""
    contact: str = ""
    credit: str = ""
    ethics: str = ""
    support: ByLanguage = Field(default_factory=dict)
    questions: Asked = ("consistency_5", "attribute", "toxic", "conformity")
    demographics: Asked = ()
    instructions: ByLanguage = Field(default_factory=dict)
    languages: Words = LANGUAGES
    synthetic: bool = True
    raters: Annotated[int, Field(ge=1, le=MOST_RATERS)] = 5
    ratings_per_rater: Annotated[int, Field(ge=0, le=5_000)] = 60
    pairs_per_rater: Annotated[int, Field(ge=0, le=5_000)] = 0
    training: Annotated[int, Field(ge=0, le=12)] = 4
    training_pass: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    gold_every: Annotated[int, Field(ge=0, le=1_000)] = 10
    most_flagged: Annotated[int, Field(ge=0, le=5_000)] = 20
    break_items: Annotated[int, Field(ge=0, le=1_000)] = 20
    break_minutes: Annotated[int, Field(ge=0, le=240)] = 15
    mood: bool = False
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    exclude: Annotated[tuple[Literal["checks", "speed", "straight", "agreement"], ...], Field(strict=False)] = ()
    open_link: bool = False
    idle_minutes: Annotated[int, Field(ge=5, le=10_080)] = 60
    parameters: Words = PARAMETERS
    codes: ReturnCodes = ReturnCodes()
    more_raters: Annotated[int, Field(ge=0, lt=MOST_RATERS)] = 0

    @field_validator("title")
    @classmethod
    def _has_a_title(cls, title: str) -> str:
        if not title.strip():
            raise ValueError("the title is empty: say what raters will read, such as 'Rating drawn portraits'")
        return title

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(languages) - set(LANGUAGES)):
            raise ValueError(f"no language {unknown[0]!r}; there are: {', '.join(LANGUAGES)}")
        if not languages:
            raise ValueError(f"no language is listed; there are: {', '.join(LANGUAGES)}")
        return languages

    @field_validator("questions")
    @classmethod
    def _known_questions(cls, questions: tuple[str | Question, ...]) -> tuple[str | Question, ...]:
        if not find_questions(questions):
            raise ValueError("no question is listed: list at least one, such as consistency_5")
        return questions

    @field_validator("demographics")
    @classmethod
    def _of_raters(cls, questions: tuple[str | Question, ...]) -> tuple[str | Question, ...]:
        find_questions(questions, of_raters=True)
        return questions

    @field_validator("parameters")
    @classmethod
    def _names_of_parameters(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) > 12 or not all(name.isidentifier() and len(name) <= 40 for name in names):
            raise ValueError("wanted at most 12 names of letters, digits and _, such as PROLIFIC_PID")
        return names

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        pairs = any(question.kind == "pair" for question in self.asked)
        if bool(self.pairs_per_rater) != pairs:
            way = "give pairs_per_rater" if pairs else "add the question 'preference'"
            asked = "" if pairs else "not "
            raise ValueError(f"pairs_per_rater is {self.pairs_per_rater} and pairs are {asked}asked for: {way}")
        if not self.pairs_per_rater and not self.ratings_per_rater:
            raise ValueError("nobody would rate anything: give ratings_per_rater")
        if self.raters + self.more_raters > MOST_RATERS:
            raise ValueError(f"{self.raters + self.more_raters} places are too many: a study has at most {MOST_RATERS}")
        return self

    @functools.cached_property
    def asked(self) -> tuple[Question, ...]:
        """The questions, in the order in which they are asked."""
        return find_questions(self.questions)

    @functools.cached_property
    def asked_of_raters(self) -> tuple[Question, ...]:
        """The demographic questions."""
        return find_questions(self.demographics, of_raters=True)

    def question(self, id: str) -> Question:
        """The question of that id.

        Raises:
            KeyError: it is not asked.
        """
        return next((question for question in self.asked if question.id == id), None) or _not_asked(id)

    def measuring(self, measure: str) -> tuple[Question, ...]:
        """The questions from which the report makes that figure."""
        return tuple(question for question in self.asked if question.measure == measure)

    @property
    def places(self) -> int:
        """How many raters there can be; with one link for all, also those who come after others left."""
        return MOST_RATERS if self.open_link else self.raters + self.more_raters


class Corrections(StrictModel):
    """`corrections.yaml`: what may still change after the first answer, for no rater's plan depends on it."""

    contact: str | None = None
    support: ByLanguage | None = None
    codes: ReturnCodes | None = None
    more_raters: Annotated[int, Field(ge=0, lt=MOST_RATERS)] | None = None


def _not_asked(id: str) -> Question:
    raise KeyError(id)


@dataclass(frozen=True)
class StudyFolder:
    """A study with all it needs to run.

    Attributes:
        digest: SHA-256 of `study.yaml` and `items.json`.
        titles: of the methods, by id; for the organiser only.
    """

    path: Path
    study: Study
    items: Mapping[str, Item]
    titles: Mapping[str, str]
    secret: bytes
    digest: str

    @property
    def name(self) -> str:
        """What the study is called in its address: opaque, for a folder's name may name a method."""
        return self.opaque("study")[:10]

    @property
    def organiser_key(self) -> str:
        """Who holds it may pause, withdraw and read the results."""
        return self.opaque("organiser")

    def opaque(self, *parts: object) -> str:
        """32 hexadecimal digits that only the holder of `secret.key` can make from the parts."""
        return opaque(self.secret, *parts)

    def code(self, rater: int) -> str:
        """The code by which a rater comes in and comes back: two signs of number, ten that cannot be guessed."""
        number = CODE_ALPHABET[rater // 32] + CODE_ALPHABET[rater % 32]
        digest = hmac.digest(self.secret, f"code\0{rater}".encode(), "sha256")
        return number + "".join(CODE_ALPHABET[byte % 32] for byte in digest[:10])

    def rater_of(self, code: str) -> int | None:
        """Who holds the code; None where nobody does. Spaces, dashes and small letters do not matter."""
        code = "".join(sign for sign in code.upper() if sign not in " -")
        if len(code) != 12 or any(sign not in CODE_ALPHABET for sign in code):
            return None
        rater = 32 * CODE_ALPHABET.index(code[0]) + CODE_ALPHABET.index(code[1])
        return rater if rater < self.study.places and hmac.compare_digest(self.code(rater), code) else None

    def image_path(self, item: Item, *, veiled: bool) -> Path:
        """The image's file, or that of its veiled form."""
        return self.path / IMAGES / f"{item.id}{'.veil' if veiled else ''}.png"


def opaque(secret: bytes, *parts: object) -> str:
    """32 hexadecimal digits, a keyed digest of the parts."""
    return hmac.new(secret, "\0".join(map(str, parts)).encode(), "sha256").hexdigest()[:32]


def load_study(path: Path) -> StudyFolder:
    """The study in a folder, checked.

    Raises:
        InputError: a file is missing, or an entry is wrong; names the file, the field and the way out.
    """
    try:
        text = (path / STUDY).read_bytes()
        items = (path / ITEMS).read_bytes()
        secret = (path / SECRET).read_bytes()
    except OSError as error:
        reason = f"{Path(error.filename).name}: {error.strerror}" if error.filename else str(error)
        raise InputError(
            f"no study is in {path} ({reason}): make one with python -m livo study create {path} ..."
        ) from error
    if len(secret) != 32:
        raise InputError(
            f"{SECRET} in {path} has {len(secret)} bytes and not 32: without it no rater's code is valid; restore it"
        )
    try:
        payload = ItemsFile.model_validate_json(items)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{ITEMS} in {path} cannot be read ({place}: {first['msg']}, got {described(first['input'])}): make the "
            "study again"
        ) from error
    digest = hashlib.sha256(hashlib.sha256(text).digest() + hashlib.sha256(items).digest()).hexdigest()
    study = _corrected(parse_study(text.decode("utf-8", "replace")), path / CORRECTIONS)
    folder = StudyFolder(path, study, {i.id: i for i in payload.items}, payload.methods, secret, digest)
    for item in payload.items:
        for veiled in (False, True):
            image = folder.image_path(item, veiled=veiled)
            if image.is_symlink() or not image.is_file():
                raise InputError(
                    f"image {item.id} is missing from {path / IMAGES}: restore the folder, or make the study again"
                )
    return folder


def _corrected(study: Study, path: Path) -> Study:
    if not path.exists():
        return study
    changes = read_model(Corrections, load_yaml(path) or {}, CORRECTIONS).model_dump(exclude_none=True)
    return read_model(Study, {**study.model_dump(), **changes}, CORRECTIONS)


def parse_study(text: str) -> Study:
    """`study.yaml`.

    Raises:
        InputError: it is no YAML, a field is unknown, of another type or out of range.

    Example:
        >>> parse_study("title: Drawn portraits\\nraters: 3").raters
        3
    """
    payload = parse_yaml(text, STUDY)
    if not isinstance(payload, Mapping):
        raise InputError(f"{STUDY} must hold fields, such as 'title: Rating drawn portraits'")
    return read_model(Study, payload, STUDY)


def dump_study(study: Study) -> str:
    """`study.yaml`, with every field, for a person to read on."""
    head = (
        "# A human-evaluation study. Change what you like until the first answer; after it, corrections.yaml with\n"
        f"# {', '.join(Corrections.model_fields)}, or a new study.\n"
    )
    payload: dict[str, Any] = study.model_dump(mode="json")
    for name in ("questions", "demographics"):
        payload[name] = [
            one if isinstance(one, str) else one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for one in getattr(study, name)
        ]
    return head + yaml.safe_dump(payload, sort_keys=False, allow_unicode=True, width=110)


def write_secret(path: Path) -> bytes:
    """Makes `secret.key`, readable by its owner alone; keeps one that is there."""
    target = path / SECRET
    if target.exists():
        return target.read_bytes()
    secret = os.urandom(32)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    return secret
