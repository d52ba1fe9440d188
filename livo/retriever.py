"""The value retriever p(v|x), first form: by lexicon. Offline, in time linear in the prompt, and able to say why.

    tokens -> phrases found -> those meant (not negated, no harmless context) -> a score per principle -> the argmax

Knows nothing about images, models or pages. Every word it knows is in `assets/principles.yaml` and `assets/lexicon.yaml`.

The scores are fixed confidences, each principle's own; they are no distribution, since several principles may apply:

    toxicity   1 - 0.1^k  for k different words found, as if each were wrong one time in ten independently
    bias       0.8        a person is shown, the attribute is not named, and a word of the principle's lists is there
               0.5        a person is shown and the attribute is not named
               0          no person, or the attribute is named

So toxicity (>= 0.9) always goes before bias; equal scores go to the earlier entry of `principles.yaml`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from livo.principles import Entry, load_entries, load_lexicon
from livo.types import Evidence, InputError, Retrieval

MISS_RATE = 0.1
"""How often one toxic word is taken to mislead."""
CUE, FALLBACK = 0.8, 0.5
"""Confidence in a bias principle with, and without, a word that speaks for it rather than for another."""

NEGATORS = frozenset("no not without never non nor neither zero none nobody minus sans avoid avoiding exclude excluding "
                     "lacking lack absence devoid cannot".split())  # fmt: skip
FILLERS = frozenset("a an any the at all even single drop drops trace traces sign signs hint amount of visible explicit actual "
                    "real too so very much more be is are being been was were have has having show showing shown contain "
                    "containing depict depicting include including see seen shows longer".split())  # fmt: skip
COORDINATORS = frozenset({"or", "nor", "and"})
COPULAS = frozenset("who whose that which is are was were be being looks looking look seems seeming feels feeling feel appears "
                    "appearing very really quite so too rather a bit".split())  # fmt: skip
FOLLOWERS = frozenset("with in on at who is are wearing standing sitting holding smiling from near looking by posing working "
                      "walking running outside inside".split())  # fmt: skip
DETERMINERS = frozenset({"no", "without", "zero"})
PRONOUNS = frozenset({"she", "he", "who", "it", "that", "there", "everyone", "someone"})
REACH = 6
"""How many tokens a negation, or a description, may lie from what it is about."""

_TOKEN = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f\u00ad\u200b-\u200d\u2060\ufeff]|['’](?=[^\W_]))*")
_INVISIBLE = re.compile(r"[\u0300-\u036f\u00ad\u200b-\u200d\u2060\ufeff]")
_BREAK = re.compile(r"[.,;:!?…。，、()\[\]{}|\n\r]")
_HERE = object()  # the trie's key for "a phrase ends here"; no token equals it
_PERSON = "<person>"
_ROLES = {"occupations": "an occupation", "adjectives": "describes a person", "lexicon": "a cue"}


class Token(NamedTuple):
    """A word of the prompt: folded for comparison, and where it stands."""

    text: str
    start: int
    end: int
    gap: str  # what stands between the token before and this one
    possessive: bool

    @property
    def breaks(self) -> bool:
        """Whether punctuation parts it from the token before."""
        return _BREAK.search(self.gap) is not None


class Found(NamedTuple):
    """A phrase of the lexicon, at tokens first to last (exclusive)."""

    first: int
    last: int
    term: str
    role: str
    owner: int  # index of the principle's entry; -1 for the word lists about people


@functools.cache
def _default_retriever() -> LexicalRetriever:
    return LexicalRetriever()


def retrieve(prompt: str) -> Retrieval:
    """The principle that a prompt calls for, of the shipped set, with the words that decided.

    Example:
        >>> answer = retrieve("a photo of a doctor")
        >>> answer.principle.text, answer.evidence[0].text
        ('gender equality', 'doctor')
        >>> retrieve("a dead end street in Essex").principle is None
        True
    """
    return _default_retriever()(prompt)


class LexicalRetriever:
    """p(v|x) by lexicon: word boundaries, inflections, phrases, negation, harmless contexts, and names of attributes.

    Args:
        entries: the principles and their words; the shipped ones where none are given.
        lexicon: lists of words about people, as `load_lexicon` returns them.

    Raises:
        InputError: if an entry wants a word list that the lexicon does not have.
    """

    def __init__(self, entries: Sequence[Entry] | None = None, lexicon: Mapping[str, Sequence[str]] | None = None) -> None:
        self.entries = tuple(load_entries() if entries is None else entries)
        lexicon = load_lexicon() if lexicon is None else lexicon
        for entry in self.entries:
            for name in entry.lists:
                if name not in lexicon:
                    raise InputError(
                        f"principle {entry.principle.id!r}, field 'lists': there is no word list {name!r}; "
                        f"there are: {', '.join(lexicon)}"
                    )
        self._objects = frozenset(lexicon["objects"])
        self._body = frozenset(lexicon["body"])
        self._nominals = frozenset(lexicon["nominals"])
        self._plain: dict = {}
        self._about_persons: dict = {}  # phrases with `<person>`, found once the persons are
        modifiers: set[str] = {"and", "very", *lexicon["adjectives"]}
        for name, words in lexicon.items():
            forms = {"adjectives": _as_is, "objects": None, "body": None}.get(name, _plurals)
            if forms:
                self._add(words, name, -1, forms)
        for owner, entry in enumerate(self.entries):
            self._add(entry.lexicon, "lexicon", owner, _inflections)
            self._add(entry.unless, "unless", owner, _plurals)
            self._add(entry.names, "names", owner, _plurals)
            self._add(entry.persons, "persons", owner, _plurals)
            self._add(entry.describes, "describes", owner, _as_is)
            modifiers.update(entry.describes, entry.names)
        self._modifiers = frozenset(modifiers)

    def __call__(self, prompt: str) -> Retrieval:
        tokens = _tokens(prompt)
        found = list(_search(self._plain, tokens, {}, self._modifiers))
        by_role: dict[str, list[Found]] = {}
        for item in found:
            by_role.setdefault(item.role, []).append(item)
        persons = self._persons(tokens, by_role)
        starts = {item.first: item.last for item in persons}
        found = [*by_role.get("lexicon", ()), *_search(self._about_persons, tokens, starts, self._modifiers)]
        triggers = _longest(item for item in found if self._toxic(item.owner))
        own_cues = [item for item in found if not self._toxic(item.owner)]
        harmless = _cover(item for item in by_role.get("unless", ()))
        meant, not_meant = [], []
        for item in triggers:
            phrase = _overlapping(item, harmless.get(item.owner))
            if phrase is None:
                meant.append(item)
            else:
                reason = f"a harmless use of '{item.term}'"
                not_meant.append(_evidence(prompt, tokens, *phrase, reason))
        negated = _negations(tokens, meant, persons)
        for item in (*meant, *persons):
            if item in negated:
                reason = f"'{item.term}' is negated"
                not_meant.append(_evidence(prompt, tokens, *negated[item], reason))
        meant = [item for item in meant if item not in negated]
        persons = [item for item in persons if item not in negated]

        scores = dict.fromkeys((entry.principle.id for entry in self.entries), 0.0)
        evidence: dict[str, list[Evidence]] = {}
        for owner, entry in enumerate(self.entries):
            hits = [item for item in meant if item.owner == owner]
            if self._toxic(owner) and hits:
                scores[entry.principle.id] = 1.0 - MISS_RATE ** len({item.term for item in hits})
                reason = f"calls for '{entry.principle.text}'"
                evidence[entry.principle.id] = [_evidence(prompt, tokens, i.first, i.last, reason) for i in hits]
        named = []
        if persons:
            unnamed = []
            for owner, entry in enumerate(self.entries):
                if self._toxic(owner):
                    continue
                naming = self._naming(owner, tokens, by_role, persons, harmless.get(owner))
                reason = f"says whether {_either(entry.principle.classes)}"
                named += [_evidence(prompt, tokens, i.first, i.last, reason) for i in naming]
                if not naming:
                    unnamed.append((owner, entry))
            for owner, entry in unnamed:
                cues = self._cues(entry, tokens, by_role, persons) + [i for i in own_cues if i.owner == owner]
                scores[entry.principle.id] = CUE if cues else FALLBACK
                reason = f"nothing says whether {_either(entry.principle.classes)}"
                because = [
                    _evidence(prompt, tokens, i.first, i.last, f"{_ROLES.get(i.role, 'a person')}; {reason}")
                    for i in _longest([*cues, *persons])
                ]
                evidence[entry.principle.id] = because + named

        best = max(self.entries, key=lambda entry: scores[entry.principle.id]).principle
        if scores[best.id] > 0:
            return Retrieval(best, _in_order(evidence[best.id]), scores)
        return Retrieval(None, _in_order(not_meant + named), scores)

    def _toxic(self, owner: int) -> bool:
        return self.entries[owner].principle.risk == "toxicity"

    def _add(self, phrases: Iterable[str], role: str, owner: int, forms) -> None:
        for phrase in phrases:
            parts: list[str] = []
            for word in phrase.split():
                parts += [word] if word in (_PERSON, "*") else [token.text for token in _tokens(word)]
            if not parts:
                raise InputError(f"{role}: {phrase!r} holds no word that a prompt could hold")
            trie = self._about_persons if _PERSON in parts else self._plain
            last = [parts[-1]] if parts[-1] == _PERSON else sorted(forms(parts[-1]))
            for ending in last:
                node = trie
                for part in (*parts[:-1], ending):
                    node = node.setdefault(part, {})
                node.setdefault(_HERE, set()).add((phrase, role, owner))

    def _persons(self, tokens: Sequence[Token], by_role: Mapping[str, list[Found]]) -> list[Found]:
        """The words that mean a person here; of overlapping ones the longest."""
        candidates = [item for role in ("people", "occupations", "persons") for item in by_role.get(role, ())]
        for item in by_role.get("nominals", ()):
            after = tokens[item.last] if item.last < len(tokens) else None
            if after is None or after.breaks or after.text in FOLLOWERS:
                candidates.append(item)
        excluded = _cover(by_role.get("not_people", ())).get(-1)
        persons = []
        for item in _longest(candidates):
            following = tokens[item.last].text if item.last < len(tokens) and not tokens[item.last].breaks else ""
            if tokens[item.last - 1].possessive and item.term not in PRONOUNS and following not in self._body:
                continue
            if following in self._objects and not tokens[item.last - 1].possessive:
                continue
            if _overlapping(item, excluded) is None:
                persons.append(item)
        return persons

    def _naming(self, owner, tokens, by_role, persons, harmless) -> list[Found]:
        """The words that name the attribute of bias principle `owner`."""
        spans = {(item.first, item.last) for item in persons}
        naming = [item for item in by_role.get("names", ()) if item.owner == owner]
        naming += [i for i in by_role.get("persons", ()) if i.owner == owner and (i.first, i.last) in spans]
        starts, ends = {item.first for item in persons}, {item.last for item in persons}
        for item in by_role.get("describes", ()):
            if item.owner == owner and self._describes(item, tokens, starts, ends, copula=True):
                naming.append(item)
        return [i for i in _longest(naming) if _overlapping(i, harmless) is None]

    def _cues(self, entry: Entry, tokens, by_role, persons) -> list[Found]:
        """The words that speak for this bias principle rather than for another."""
        starts, ends = {item.first for item in persons}, {item.last for item in persons}
        cues = []
        for name in entry.lists:
            if name == "adjectives":
                near = (i for i in by_role.get(name, ()) if self._describes(i, tokens, starts, ends, copula=False))
                cues += [i for i in near if (i.first, i.last) not in {(p.first, p.last) for p in persons}]
            else:
                cues += [item for item in persons if item.role == name]
        return cues

    def _describes(self, item: Found, tokens, starts, ends, *, copula: bool) -> bool:
        """Whether the word describes a person: "a Black, smiling doctor", "a doctor who is Black", "a doctor, Black"."""
        for j in range(item.last, min(item.last + REACH, len(tokens) + 1)):
            if j in starts:
                return True
            if j >= len(tokens) or tokens[j].text not in self._modifiers:
                break
        closed = item.last >= len(tokens) or tokens[item.last].breaks or tokens[item.last].text in FOLLOWERS
        if copula and not closed:
            return False
        if copula and tokens[item.first].breaks and item.first in ends and (
            item.last >= len(tokens) or tokens[item.last].breaks
        ):  # fmt: skip
            return True
        for j in range(item.first, max(item.first - REACH, 0), -1):
            if j in ends and (j < item.first or not copula) and not tokens[j].breaks:
                return True
            if tokens[j].breaks or tokens[j - 1].text not in COPULAS and tokens[j - 1].text not in self._modifiers:
                return False
        return False


# --- finding ---------------------------------------------------------------------------------------------------------


def _tokens(prompt: str) -> list[Token]:
    tokens, previous = [], 0
    for match in _TOKEN.finditer(prompt):
        start, end = match.span()
        text = match.group()
        if not text.isascii():
            text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", unicodedata.normalize("NFKD", text)))
        text = text.casefold().replace("’", "'")
        possessive = text.endswith("'s")
        if possessive:
            text, end = text[:-2], end - 2
        elif text.endswith("s") and prompt[end : end + 1] in ("'", "’") and prompt[start - 1 : start] not in ("'", "‘"):
            possessive = True
        tokens.append(Token(text, start, end, prompt[previous:start], possessive))
        previous = end
    return tokens


def _search(trie: dict, tokens: Sequence[Token], persons: Mapping[int, int], modifiers: frozenset[str]) -> Iterator[Found]:
    """Every phrase of the trie in the prompt. A phrase does not reach across punctuation."""
    for first in range(len(tokens)):
        states = [(first, trie)]
        while states:
            i, node = states.pop()
            for term, role, owner in node.get(_HERE, ()):
                yield Found(first, i, term, role, owner)
            if i >= len(tokens) or (i > first and tokens[i].breaks):
                continue
            if (child := node.get(tokens[i].text)) is not None:
                states.append((i + 1, child))
            if i > first and (child := node.get("*")) is not None:
                states.append((i + 1, child))
            if (child := node.get(_PERSON)) is not None:
                j = i
                while j not in persons and j < min(i + REACH, len(tokens)) and tokens[j].text in modifiers:
                    j += 1
                if j in persons:
                    states.append((persons[j], child))


def _longest(items: Iterable[Found]) -> list[Found]:
    """Of phrases that overlap, the earliest and longest; one of each span and owner."""
    kept: list[Found] = []
    for item in sorted(items, key=lambda item: (item.first, -item.last, item.owner)):
        if not kept or item.first >= kept[-1].last:
            kept.append(item)
    return kept


def _cover(items: Iterable[Found]) -> dict[int, dict[int, tuple[int, int]]]:
    """By owner: the phrase (first, last) that each token lies in."""
    cover: dict[int, dict[int, tuple[int, int]]] = {}
    for item in items:
        for i in range(item.first, item.last):
            cover.setdefault(item.owner, {})[i] = (item.first, item.last)
    return cover


def _overlapping(item: Found, cover: Mapping[int, tuple[int, int]] | None) -> tuple[int, int] | None:
    for i in range(item.first, item.last):
        if cover and i in cover:
            return cover[i]
    return None


def _negations(tokens: Sequence[Token], triggers: Iterable[Found], persons: Iterable[Found]) -> dict[Found, tuple[int, int]]:
    """What is negated, with the tokens (first, last) that show it: "no blood", "not naked", "no blood or gore",
    "without any people", "blood-free", "no naked people"."""
    negated: dict[Found, tuple[int, int]] = {}
    triggers = list(triggers)
    kind = dict.fromkeys(triggers, "trigger") | dict.fromkeys(persons, "person")
    previous: Found | None = None
    for item in sorted(kind, key=lambda item: (item.first, item.last)):
        negator = _negator(tokens, item.first)
        after = tokens[item.last] if item.last < len(tokens) else None
        if negator is not None:
            negated[item] = (negator, item.last)
        elif kind[item] == "trigger" and after is not None and after.text == "free" and after.gap in ("-", "‑", "–"):
            negated[item] = (item.first, item.last + 1)
        elif previous in negated:
            start = negated[previous][0]
            between = [token.text for token in tokens[previous.last : item.first]]
            marks = "".join(token.gap for token in tokens[previous.last : item.first + 1]).strip()
            if kind[previous] == kind[item]:
                joined = marks in ("", ",", "/") and (
                    between in ([], ["and"]) or bool(between) and between[0] in ("or", "nor")
                    and all(word in FILLERS for word in between[1:])
                )  # fmt: skip
                joined = joined and bool(between or marks)
            else:
                joined = False
            adjacent = not between and not marks and tokens[start].text in DETERMINERS
            if joined or adjacent:
                negated[item] = (start, item.last)
        previous = item
    return negated


def _negator(tokens: Sequence[Token], first: int) -> int | None:
    """The token that negates the phrase at `first`; two of them cancel out ("not without blood")."""
    negator = None
    for i in range(first - 1, max(first - 1 - REACH, -1), -1):
        if tokens[i + 1].breaks:
            break
        word = tokens[i].text
        if word in NEGATORS or word.endswith("n't") or (word == "free" and tokens[i + 1].text in ("of", "from")):
            negator = i if negator is None else None
        elif word not in FILLERS and not (word == "from" and tokens[i - 1].text == "free"):
            break
    return negator


def _evidence(prompt: str, tokens: Sequence[Token], first: int, last: int, reason: str) -> Evidence:
    start, end = tokens[first].start, tokens[last - 1].end
    return Evidence(prompt[start:end], start, end, reason)


def _either(classes: Sequence[str]) -> str:
    return f"{', '.join(classes[:-1])} or {classes[-1]}"


def _in_order(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """By place; of words that count in two ways ("woman": a person, and says the gender) one, with both reasons."""
    spans: dict[tuple[int, int], Evidence] = {}
    for item in evidence:
        same = spans.get((item.start, item.end))
        if same and item.reason not in same.reason:
            item = Evidence(item.text, item.start, item.end, f"{same.reason}; {item.reason}")
        spans[item.start, item.end] = item
    return tuple(spans[span] for span in sorted(spans))


# --- inflections: rules of spelling; a form that is no English word does no harm, since no one writes it ---------------

_IRREGULAR = {"person": {"persons", "people"}, "child": {"children"}, "wife": {"wives"}, "thief": {"thieves"}, "leaf": {"leaves"},
              "body": {"bodies"}}  # fmt: skip


def _as_is(word: str) -> set[str]:
    return {word}


def _plurals(word: str) -> set[str]:
    """The word and its plural.

    Example:
        >>> sorted(_plurals("policewoman")), sorted(_plurals("lady")), sorted(_plurals("actress"))
        (['policewoman', 'policewomen'], ['ladies', 'lady'], ['actress', 'actresses'])
    """
    if word in _IRREGULAR:
        return {word, *_IRREGULAR[word]}
    if word.endswith("wife"):
        return {word, word[:-4] + "wives"}
    if word.endswith("man") and word not in ("human", "shaman", "german", "roman", "ottoman"):
        return {word, word[:-3] + "men"}
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return {word, word[:-1] + "ies"}
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return {word, word + "es"}
    return {word, word + "s"}


def _inflections(word: str) -> set[str]:
    """The word, its plural, and its forms as a verb (-ed, -ing) and an adjective (-ness, -ly, -er, -est).

    Example:
        >>> {"bloodied", "bloodies", "bloodier", "bloodiest"} <= _inflections("bloody")
        True
        >>> "nakedness" in _inflections("naked") and "bleeding" in _inflections("bleed")
        True
    """
    forms = _plurals(word)
    if len(word) < 3 or not word.isalpha():
        return forms
    if word.endswith("y") and word[-2] not in "aeiou":
        stem = word[:-1]
        return forms | {word + "ing"} | {stem + ending for ending in ("ied", "ier", "iest", "iness", "ily")}
    if word.endswith("e"):
        stem = word[:-1]
        return forms | {stem + ending for ending in ("ed", "ing", "er", "est")} | {word + "ness", word + "ly"}
    stems = {word}
    if word[-1] in "bdgmnprt" and word[-2] in "aeiou" and word[-3] not in "aeiou":
        stems.add(word + word[-1])  # stab -> stabbed
    return forms | {stem + ending for stem in stems for ending in ("ed", "ing")} | {word + "ness", word + "ly"}
