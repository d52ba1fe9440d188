"""Which words of a prompt a model knows: the one function that the page, the shell and the programs' functions ask.

    prompt -> Words: the text that the model reads, what it never saw, why it is not drawn, what to ask instead

A model that learned from captions of the drawn world knows their words alone. It draws something for any prompt, and a
judge says something about any drawing, so figures about a word that neither ever saw would be about nothing. A model of
photographs has no such list: `everything_known` stands for it.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from livo.miniature.captions import PERSON, article, plural, vocabulary
from livo.miniature.world import World, load_world
from livo.principles import load_lexicon
from livo.retriever.words import inflections, plurals

PATH = Path(__file__).resolve().parents[2] / "assets" / "vocabulary.yaml"
OPENING = "a photo of"
PEOPLE = (
    "man",
    "woman",
    "guy",
    "girl",
    "boy",
    "lady",
    "gentleman",
    "mother",
    "father",
    "wife",
    "husband",
    "son",
    "daughter",
)
"""Words for people besides the lexicon's, which keeps gendered ones elsewhere."""
SUGGESTED = 3
"""Prompts that are offered instead."""


@dataclass(frozen=True)
class Words:
    """What a model knows of a prompt's words.

    Attributes:
        text: what the model reads: the prompt, with inflected words that it knows otherwise in the form it knows.
        unknown: content words that it never saw, as typed; nothing is measured where there are any.
        refused: why the prompt is not drawn at all; empty where it is.
        nearest: known prompts to ask instead.
        language: the prompt's, where it is not the one that is read; empty for English.
    """

    text: str
    unknown: tuple[str, ...] = ()
    refused: str = ""
    nearest: tuple[str, ...] = ()
    language: str = ""

    @property
    def measurable(self) -> bool:
        """Whether figures about the prompt's pictures mean anything."""
        return not self.unknown


Vocabulary = Callable[[str], Words]


def everything_known(prompt: str) -> Words:
    """For a model whose vocabulary nobody listed, such as one of photographs; only a foreign language is named.

    Example:
        >>> everything_known("a photo of a criminal").measurable
        True
    """
    return Words(prompt, language=language_of(prompt))


def words_of_world(world: World) -> Vocabulary:
    """The vocabulary of a drawn world's captions.

    Example:
        >>> known = words_of_world(load_world())
        >>> known("a photo of smiling doctors").text
        'a photo of smiling doctor'
        >>> found = known("a photo of a doctor on Mars")
        >>> found.unknown, found.nearest[0]
        (('Mars',), 'a photo of a doctor')
        >>> known("a photo of a terrorist").refused[:50]
        '‘terrorist’ is not drawn here: it accuses a person'
    """
    known = frozenset(vocabulary(world))
    forms = {form: word for word in sorted(known) for form in _forms(word)} | {word: word for word in known}
    persons = {noun.split()[-1] for noun in (*world.occupations, *PERSON.values())}
    many = {plural(noun): noun for noun in persons if plural(noun) in known}  # what the world says after "two" alone
    nouns = [*load_lexicon()["people"], *load_lexicon()["occupations"], *world.occupations, *PEOPLE]
    people = {form for noun in nouns for form in plurals(noun.split()[-1])}
    function_words = frozenset(load_lists()["function_words"])
    always, describing = _loaded("words"), _loaded("describing")

    def words(prompt: str) -> Words:
        matches = list(_WORD.finditer(prompt))
        folded = [match.group().lower().replace("’", "'").removesuffix("'s").strip("'-") for match in matches]
        parts, unknown, at, refused = [], [], 0, ""
        for i, (match, word) in enumerate(zip(matches, folded, strict=True)):
            typed = match.group()
            pieces = [piece for piece in re.split("['-]", word) if piece]
            parts += [prompt[at : match.start()], typed]
            at = match.end()
            if word in many and "two" not in folded[:i]:
                parts[-1] = many[word]
            elif all(piece in known for piece in pieces):
                continue
            elif word in forms:
                parts[-1] = forms[word]
            elif not all(piece in known or piece in function_words for piece in pieces):
                unknown.append(typed)
                of_person = not people.isdisjoint(folded[i + 1 : i + 3])
                reason = always.get(word) or (describing.get(word) if of_person else None)
                if reason and not refused:
                    refused = f"‘{typed}’ is not drawn here: {reason}"
        text = "".join([*parts, prompt[at:]])
        if not unknown and not any(word in known and word not in function_words for word in folded):
            unknown = [prompt.strip()[:40]]  # signs alone
        if not unknown:
            return Words(text)
        nearest = tuple(_nearest(world, [forms.get(word, word) for word in folded], unknown))
        return Words(text, tuple(dict.fromkeys(unknown)), refused, nearest, language_of(prompt))

    return words


_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f]|['’-](?=[^\W_]))*")


def _forms(word: str) -> set[str]:
    """The word's plural and its comparatives; other endings ("nursing") change what it says."""
    return plurals(word) | {form for form in inflections(word) if form.endswith(("er", "est")) and form != word}


def _loaded(kind: str) -> dict[str, str]:
    """The reason by word, in every form of it; `kind` is "words" or "describing"."""
    groups = load_lists()["loaded"]
    return {form: group["reason"] for group in groups for word in group.get(kind, ()) for form in plurals(word)}


def _nearest(world: World, words: Sequence[str], unknown: Iterable[str]) -> list[str]:
    """Prompts that the world knows: what the prompt says in known words, words like the unknown ones, then the
    commonest."""
    text = f" {' '.join(words)} "
    people = [job for job in world.occupations if f" {job} " in text]
    traits = [trait for trait in world.adjectives if f" {trait} " in text]
    found = [" ".join([*traits[:1], people[0]])] if people else [f"{trait} person" for trait in traits[:1]]
    for word in unknown:
        for like in difflib.get_close_matches(word.lower(), [*world.occupations, *world.adjectives], n=2, cutoff=0.75):
            found.append(like if like in world.occupations else f"{like} person")
    found += ["doctor", "nurse", "poor person"]
    return [_prompt(who) for who in dict.fromkeys(found)][:SUGGESTED]


def _prompt(who: str) -> str:
    return f"{OPENING} {article(who)} {who}"


@functools.cache
def vocabulary_of(backbone: str) -> Vocabulary:
    """The vocabulary of a backbone by its name."""
    return words_of_world(load_world()) if backbone == "miniature" else everything_known


@functools.cache
def load_lists(path: Path = PATH) -> Mapping[str, Any]:
    """`assets/vocabulary.yaml`."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def language_of(prompt: str) -> str:
    """The language of a prompt that is not in English, as far as letters and small words tell; empty for English.

    Example:
        >>> language_of("una foto de un médico"), language_of("ein Foto von einem Arzt"), language_of("医生的照片")
        ('Spanish', 'German', 'Chinese')
        >>> language_of("a photo of a doctor"), language_of("asdf")
        ('', '')
    """
    listed = load_lists()
    letters = [c for c in prompt if unicodedata.category(c)[0] == "L"]
    names = [unicodedata.name(c, "").split(" ")[0].split("-")[0] for c in letters]
    foreign = [name for name in names if name in listed["scripts"]]
    if 2 * len(foreign) > len(letters):
        kana = [name for name in foreign if name in ("HIRAGANA", "KATAKANA")]
        return listed["scripts"][kana[0] if kana else foreign[0]]
    said = [word.lower() for word in _WORD.findall(prompt)]
    english = sum(word in listed["function_words"] or word == "photo" for word in said)
    counts = {name: sum(word in words for word in said) for name, words in listed["languages"].items()}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] >= 2 and counts[best] > english else ""
