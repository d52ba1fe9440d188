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

import difflib
import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from livo.study.questions import Question, allowed_values, find_questions
from livo.types import InputError, Principle

STUDY, ITEMS, IMAGES, SECRET, ANSWERS = "study.yaml", "items.json", "images", "secret.key", "answers.sqlite"
LANGUAGES = ("en", "fr", "es", "zh")
CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""32 signs, none that is read as another (no 0, 1, I, O)."""
MOST_RATERS = 1024


@dataclass(frozen=True)
class Study:
    """What is asked of whom.

    Attributes:
        title: raters read it; it must not name a method.
        description: one paragraph of what the study is about, as raters read it.
        contact: whom to ask; shown on every page.
        credit: what a rater is given, whether they finish or stop.
        ethics: approval and data protection, as raters read it before they consent.
        support: lines to call, by language, for whom an image upset.
        questions: ids of `livo.study.questions`.
        languages: of the rating pages, the first is the default.
        raters: how many rater links there are.
        ratings_per_rater, pairs_per_rater: single images, and pairs of images, a rater sees; 0 is none.
        training: rated with an explanation before the first image counts, as far as `items.json` has such items.
        gold_every: a silent check, of harmless images only, after so many images; 0 is none.
        most_flagged: images a rater sees at most that may be disturbing.
        break_items, break_minutes: after how many images or minutes a break is offered.
        mood: ask how the rater is, before and after; never required.
        seed: of the order.
    """

    title: str
    description: str = ""
    contact: str = ""
    credit: str = ""
    ethics: str = ""
    support: Mapping[str, str] = field(default_factory=dict)
    questions: tuple[str, ...] = ("consistency_5", "attribute", "toxic", "conformity")
    languages: tuple[str, ...] = LANGUAGES
    raters: int = 5
    ratings_per_rater: int = 60
    pairs_per_rater: int = 0
    training: int = 4
    gold_every: int = 10
    most_flagged: int = 20
    break_items: int = 20
    break_minutes: int = 15
    mood: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        chosen = find_questions(self.questions)
        if not self.title.strip():
            raise InputError(
                f"{STUDY}: the title is empty: say what raters will read, such as 'Rating drawn portraits'"
            )
        if unknown := sorted(set(self.languages) - set(LANGUAGES)):
            raise InputError(f"{STUDY}: no language {unknown[0]!r}; there are: {', '.join(LANGUAGES)}")
        if not self.languages:
            raise InputError(f"{STUDY}: no language is listed; there are: {', '.join(LANGUAGES)}")
        for name, least, most in _RANGES:
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{STUDY}: {name} is {getattr(self, name)}: give {least} to {most}")
        pairs = any(question.kind == "pair" for question in chosen)
        if bool(self.pairs_per_rater) != pairs:
            way = "give pairs_per_rater" if pairs else "add the question 'preference'"
            raise InputError(
                f"{STUDY}: pairs_per_rater is {self.pairs_per_rater} and pairs are {'' if pairs else 'not '}asked for: {way}"
            )
        if not self.pairs_per_rater and not self.ratings_per_rater:
            raise InputError(f"{STUDY}: nobody would rate anything: give ratings_per_rater")

    @property
    def asked(self) -> tuple[Question, ...]:
        """The questions, in the order in which they are asked."""
        return find_questions(self.questions)


_RANGES = (
    ("raters", 1, MOST_RATERS), ("ratings_per_rater", 0, 5_000), ("pairs_per_rater", 0, 5_000), ("training", 0, 12),
    ("gold_every", 0, 1_000), ("most_flagged", 0, 5_000), ("break_items", 0, 1_000), ("break_minutes", 0, 240),
    ("seed", 0, 2**32 - 1),
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One image that is rated.

    Attributes:
        id: opaque; also the image's file name.
        method, seed: what made it; a rater never learns them.
        category: the kind of disturbing content that the prompt asks for, which covers the image; empty for a harmless
            prompt. It belongs to the prompt and not to the image, or the cover would tell the methods apart.
        judge: the automatic judge's labels by question ("gender", "toxicity"); "" where it abstained.
        digest: SHA-256 of the image's file.
        use: "rated", or "training" or "gold", which have an expected answer.
        expected: by question, the answers that are right.
        explanation: shown after a training answer.
    """

    id: str
    prompt: str
    method: str
    seed: int
    principle: Principle | None = None
    category: str = ""
    judge: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    use: Literal["rated", "training", "gold"] = "rated"
    expected: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)
    explanation: str = ""

    def questions(self, asked: Sequence[Question]) -> tuple[Question, ...]:
        """Of those asked, the ones that this image is asked; of a check, those with an expected answer."""
        risk = self.principle.risk if self.principle else ""
        chosen = [q for q in asked if q.kind != "pair" and q.risk in ("", risk)]
        return tuple(q for q in chosen if self.use == "rated" or q.id in self.expected)

    def allowed(self, question: Question) -> tuple[float | str, ...]:
        """What may be answered of this image."""
        return allowed_values(question, self.principle.classes if self.principle else ())


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
        return rater if rater < self.study.raters and hmac.compare_digest(self.code(rater), code) else None

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
        told = json.loads(items)
        rows = [_read_item(row) for row in told["items"]]
        titles = dict(told["methods"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{ITEMS} in {path} cannot be read ({error}): make the study again") from error
    digest = hashlib.sha256(hashlib.sha256(text).digest() + hashlib.sha256(items).digest()).hexdigest()
    folder = StudyFolder(
        path, parse_study(text.decode("utf-8", "replace")), {i.id: i for i in rows}, titles, secret, digest
    )
    for item in rows:
        if not folder.image_path(item, veiled=False).is_file() or not folder.image_path(item, veiled=True).is_file():
            raise InputError(
                f"image {item.id} is missing from {path / IMAGES}: restore the folder, or make the study again"
            )
    return folder


def parse_study(text: str) -> Study:
    """`study.yaml`.

    Raises:
        InputError: it is no YAML, a field is unknown, of another type or out of range.

    Example:
        >>> parse_study("title: Drawn portraits\\nraters: 3").raters
        3
    """
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{STUDY} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(told, Mapping):
        raise InputError(f"{STUDY} must hold fields, such as 'title: Rating drawn portraits'")
    known = {f.name: f for f in fields(Study)}
    for name in told:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise InputError(
                f"{STUDY}: no field {name!r}{f', did you mean {near[0]!r}?' if near else ''}; there are: {', '.join(known)}"
            )
    if "title" not in told:
        raise InputError(f"{STUDY}: the title is missing: add 'title: Rating drawn portraits'")
    return Study(**{name: _typed(name, value, known[name].type) for name, value in told.items()})


def _typed(name: str, value: Any, kind: str) -> Any:
    """A field's value, refused unless it has the field's type."""
    right = {
        "str": isinstance(value, str),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "tuple[str, ...]": isinstance(value, list) and all(isinstance(v, str) for v in value),
        "Mapping[str, str]": isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values()),
    }[kind]
    if not right:
        wanted = {"str": "text", "int": "a whole number", "bool": "true or false", "tuple[str, ...]": "a list of words"}
        raise InputError(
            f"{STUDY}: {name} is {value!r}: wanted {wanted.get(kind, 'text by language, such as en: ...')}"
        )
    return tuple(value) if kind.startswith("tuple") else value


def dump_study(study: Study) -> str:
    """`study.yaml`, with every field, for a person to read on."""
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(study).items()}
    head = "# A human-evaluation study. Change what you like until the first answer; after it, make a new study.\n"
    return head + yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=110)


def dump_items(items: Sequence[Item], titles: Mapping[str, str]) -> str:
    """`items.json`."""
    return (
        json.dumps({"methods": dict(titles), "items": [asdict(item) for item in items]}, indent=1, ensure_ascii=False)
        + "\n"
    )


def _read_item(row: Mapping[str, Any]) -> Item:
    told = dict(row)
    if principle := told["principle"]:
        told["principle"] = Principle(**{**principle, "classes": tuple(principle["classes"])})
    told["expected"] = {question: tuple(values) for question, values in told["expected"].items()}
    return Item(**told)


def write_secret(path: Path) -> bytes:
    """Makes `secret.key`, readable by its owner alone; keeps one that is there."""
    target = path / SECRET
    if target.exists():
        return target.read_bytes()
    secret = os.urandom(32)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    return secret
