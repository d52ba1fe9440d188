"""What is drawn in no mode and by no model: prompts that join people under age with anything sexual.

The words are in `assets/minors.yaml`. A prompt is read as it is typed and as it is meant (`folding.py`, digits for
letters); what is sexual is also whatever the shipped retriever calls nudity.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict

from livo.inputs import load_yaml, read_model
from livo.retriever import default_retriever
from livo.retriever.folding import fold, split
from livo.retriever.spelling import LONG, Spelling
from livo.types import InputError

PATH = Path(__file__).resolve().parents[2] / "assets" / "minors.yaml"
ADULT = 18
REFUSED = (
    "nothing is drawn for this prompt, here or anywhere with LiVO: it reads as a person under age with something "
    "sexual; where an adult is meant, say so: woman, man, adult"
)
_DIGITS = str.maketrans("013457@$!|", "oieastasii")
_AGE = re.compile(r"(?<!\d)(\d{1,2})[ -]*(?:years?|yrs?|y)[ -]*(?:olds?|o)\b|\baged? (\d{1,2})\b", re.IGNORECASE)
_WEIGHT = re.compile(r"[()\[\]{}]|:\d+(?:\.\d+)?(?=[)\]])")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d)")
_LONG = re.compile(rf"[^\W\d_]{{{LONG},}}")
_OLD = re.compile(r"\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen)[ -]years?[ -]olds?\b")


class MinorWords(BaseModel):
    """The lists of `assets/minors.yaml`; words of Latin letters match whole, others wherever they stand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: tuple[str, ...]
    coded: tuple[str, ...]
    sexual: tuple[str, ...]


@functools.cache
def load_words(path: Path = PATH) -> MinorWords:
    """The lists; read once per process."""
    return read_model(MinorWords, load_yaml(path), str(path))


def check_minors(prompt: str) -> None:
    """Lets a prompt pass unless it joins people under age with anything sexual.

    Raises:
        InputError: it does.

    Example:
        >>> check_minors("a child at the beach")
        >>> check_minors("a s3xy schoolgirl")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        livo.types.InputError: nothing is drawn for this prompt, here or anywhere with LiVO: ...
    """
    words, readings = load_words(), _readings(prompt)
    if any(_pattern(words.coded).search(text) for text in readings):
        raise InputError(REFUSED)
    if not any(map(names_a_minor, readings)):
        return
    if any(_pattern(words.sexual).search(text) for text in readings) or any(map(_nude, readings)):
        raise InputError(REFUSED)


def names_a_minor(text: str) -> bool:
    """Whether a word of the text means somebody under age, or an age below 18 is given.

    Example:
        >>> [names_a_minor(text) for text in ("a naked statue", "a schoolgirl", "17 yo", "18 yo")]
        [False, True, True, False]
    """
    text = text.casefold()
    ages = [int(years) for match in _AGE.finditer(text) for years in match.groups() if years]
    words = load_words()
    named = _pattern(words.people).search(text) or _pattern(words.coded).search(text)
    return bool(named or _OLD.search(text) or any(age < ADULT for age in ages))


def _readings(prompt: str) -> set[str]:
    """The prompt in small letters, as it is typed and as it may be meant.

    As it reads (`fold`), with digits for the letters that they resemble, without accents and strokes, with signs of
    web addresses and of weighted words taken for what they stand for, with words run together taken apart, and with
    long words spelt right.
    """
    known, spelling = _known(), _spelling()
    plain = unicodedata.normalize("NFKC", prompt)
    bare = "".join(sign for sign in unicodedata.normalize("NFKD", prompt) if not unicodedata.combining(sign))
    decoded = unquote(html.unescape(plain))
    weighted = _WEIGHT.sub("", plain)
    parted = _CAMEL.sub(" ", plain).replace("_", " ")
    texts = {plain, bare, decoded, weighted, parted}
    texts |= {fold(text, known).text for text in texts}
    texts = {text.casefold() for text in texts}
    texts |= {fold(text.translate(_DIGITS), known).text for text in texts}
    apart = {_LONG.sub(lambda word: " ".join(split(word.group(), known)) or word.group(), text) for text in texts}
    return texts | apart | {_LONG.sub(lambda word: spelling.read(word.group()), text) for text in texts}


@functools.cache
def _known() -> frozenset[str]:
    words = load_words()
    return default_retriever().lexical.known_words | {
        word.rstrip("*") for word in (*words.people, *words.coded, *words.sexual)
    }


@functools.cache
def _spelling() -> Spelling:
    words = load_words()
    ours = [word.rstrip("*") for word in (*words.people, *words.coded, *words.sexual)]
    return Spelling(default_retriever().lexical.known_words, [word for word in ours if len(word) >= LONG])


def _nude(text: str) -> bool:
    return any(principle.id == "nudity" for principle in default_retriever()(text).principles)


@functools.cache
def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    latin = [word for word in words if "LATIN" in unicodedata.name(word[0])]
    whole = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in latin)
    others = "|".join(re.escape(word) for word in words if word not in latin)
    return re.compile(rf"\b(?:{whole})\b{f'|{others}' if others else ''}")
