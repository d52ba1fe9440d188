"""The retriever's first stage: by lexicon. Offline, in time linear in the prompt, and able to say why.

    tokens -> phrases found -> those meant (not negated, no harmless context) -> a score per principle -> the argmax

Knows nothing about images, models or pages. Every word it knows is in `principles.yaml` and `lexicon.yaml`.

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
from collections.abc import Callable, Iterable, Mapping, Sequence

from livo.principles import Entry, load_entries, load_lexicon
from livo.retriever.negation import negations
from livo.retriever.phrases import PERSON, REACH, Found, Phrases, cover, longest, overlapping, search
from livo.retriever.spelling import MIN_LETTERS, Spelling
from livo.retriever.things import Things
from livo.retriever.words import Token, as_is, inflections, plurals, tokens, word_set
from livo.types import Evidence, InputError, Principle, Retrieval

MISS_RATE = 0.1
"""How often one toxic word is taken to mislead."""
APPLIES = 0.5
"""The least score of a principle that applies."""
CUE, FALLBACK = 0.8, 0.5
"""Confidence in a bias principle with, and without, a word that speaks for it rather than for another."""

COPULAS = word_set(
    "who whose that which is are was were be being looks looking look seems seeming feels feeling feel appears "
    "appearing very really quite so too rather a bit"
)
FOLLOWERS = word_set(
    "with in on at who is are wearing standing sitting holding smiling from near looking by posing working walking "
    "running outside inside"
)
ENGLISH = word_set(
    "the of and with from into near who wearing behind his its their this that while out through onto beside between "
    "across without not"
)
"""Words that join others in English, and are no common words of other languages in Latin letters."""
PRONOUNS = frozenset({"she", "he", "who", "it", "that", "there", "everyone", "someone"})

SPELT_RIGHT, ENDINGS, THINGS = "spelt_right", "occupation_endings", "things"
_COMPARED = ("er", "est", "ness", "ly")
_ROLES = {"occupations": "an occupation", "adjectives": "describes a person", "lexicon": "a cue"}


class LexicalRetriever:
    """p(v|x) by lexicon: word boundaries, inflections, phrases, negation, harmless contexts, and names of attributes.

    Args:
        entries: the principles and their words; the shipped ones where none are given.
        lexicon: lists of words about people, as `load_lexicon` returns them.

    Raises:
        InputError: if an entry wants a word list that the lexicon does not have.
    """

    def __init__(
        self, entries: Sequence[Entry] | None = None, lexicon: Mapping[str, Sequence[str]] | None = None
    ) -> None:
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
        self._things = Things(lexicon.get(THINGS, ()))
        endings = "|".join(map(re.escape, lexicon.get(ENDINGS, ()))) or "(?!)"
        self._title = re.compile(rf"[^\W\d_]{{2,}}(?:{endings})s?")
        self._plain = Phrases()
        self._about_persons = Phrases()  # phrases with `<person>`, found once the persons are
        modifiers: set[str] = {"and", "very", *lexicon["adjectives"]}
        for name, words in lexicon.items():
            if name not in ("objects", "body", SPELT_RIGHT, ENDINGS, THINGS):
                self._add(words, name, -1, as_is if name == "adjectives" else plurals)
        for owner, entry in enumerate(self.entries):
            self._add(entry.lexicon, "lexicon", owner, inflections)
            self._add(entry.unless, "unless", owner, plurals)
            self._add(entry.of_bodies, "of_bodies", owner, inflections)
            self._add(entry.names, "names", owner, plurals)
            self._add(entry.persons, "persons", owner, plurals)
            self._add(entry.describes, "describes", owner, as_is)
            modifiers.update(entry.describes, entry.names)
        self._modifiers = frozenset(modifiers)
        self._spelling = self._spelling_of(lexicon)

    def __call__(self, prompt: str) -> Retrieval:
        words = self._spelling(tokens(prompt))
        found = list(search(self._plain, words, {}, self._modifiers))
        by_role: dict[str, list[Found]] = {}
        for item in found:
            by_role.setdefault(item.role, []).append(item)
        if titles := [i for i, word in enumerate(words) if self._title.fullmatch(word.text)]:
            by_role.setdefault("occupations", []).extend(
                Found(i, i + 1, words[i].text, "occupations", -1) for i in titles
            )
        persons = self._persons(words, by_role)
        starts = {item.first: item.last for item in persons}
        found = [*by_role.get("lexicon", ()), *search(self._about_persons, words, starts, self._modifiers)]
        triggers = longest(item for item in found if self._toxic(item.owner))
        own_cues = [item for item in found if not self._toxic(item.owner)]
        harmless = cover(item for item in by_role.get("unless", ()))
        of_bodies = {(item.first, item.last, item.owner) for item in by_role.get("of_bodies", ())}
        persons_named = [item for role in ("people", "occupations", "persons") for item in by_role.get(role, ())]
        people = {i for item in persons_named for i in range(item.first, item.last)}
        meant, not_meant = [], []
        for item in triggers:
            phrase = overlapping(item, harmless.get(item.owner))
            if phrase is None and (item.first, item.last, item.owner) in of_bodies:
                phrase = self._things.spoken_of(item, words, people)
            if phrase is None:
                meant.append(item)
            else:
                reason = f"a harmless use of '{item.term}'"
                not_meant.append(_evidence(prompt, words, *phrase, reason))
        negated = negations(words, meant, persons)
        for item in (*meant, *persons):
            if item in negated:
                reason = f"'{item.term}' is negated"
                not_meant.append(_evidence(prompt, words, *negated[item], reason))
        meant = [item for item in meant if item not in negated]
        persons = [item for item in persons if item not in negated]

        scores = dict.fromkeys((entry.principle.id for entry in self.entries), 0.0)
        evidence: dict[str, list[Evidence]] = {}
        for owner, entry in enumerate(self.entries):
            hits = [item for item in meant if item.owner == owner]
            if self._toxic(owner) and hits:
                scores[entry.principle.id] = 1.0 - MISS_RATE ** len({item.term for item in hits})
                reason = f"calls for '{entry.principle.text}'"
                evidence[entry.principle.id] = [_evidence(prompt, words, i.first, i.last, reason) for i in hits]
        named = []
        if persons:
            unnamed = []
            for owner, entry in enumerate(self.entries):
                if self._toxic(owner):
                    continue
                naming = self._naming(owner, words, by_role, persons, harmless.get(owner))
                reason = f"says whether {either(entry.principle.classes)}"
                named += [_evidence(prompt, words, i.first, i.last, reason) for i in naming]
                if not naming:
                    unnamed.append((owner, entry))
            for owner, entry in unnamed:
                cues = self._cues(entry, words, by_role, persons) + [i for i in own_cues if i.owner == owner]
                scores[entry.principle.id] = CUE if cues else FALLBACK
                reason = f"nothing says whether {either(entry.principle.classes)}"
                because = [
                    _evidence(prompt, words, i.first, i.last, f"{_ROLES.get(i.role, 'a person')}; {reason}")
                    for i in longest([*cues, *persons])
                ]
                evidence[entry.principle.id] = because + named

        if ranked := rank([entry.principle for entry in self.entries], scores):
            return Retrieval(ranked[0], _in_order(evidence[ranked[0].id]), scores, ranked)
        return Retrieval(None, _in_order(not_meant + named), scores)

    @functools.cached_property
    def known_words(self) -> frozenset[str]:
        """Every word that it looks for, in all its forms."""
        return self._spelling.known

    def reads_english(self, prompt: str) -> bool:
        """Whether a prompt is in English: by a word that joins others there, or as most of its words are known.

        Example:
            >>> ask = LexicalRetriever()
            >>> ask.reads_english("a doctor with a cat"), ask.reads_english("un gato en la ventana")
            (True, False)
        """
        words = [token.text for token in tokens(prompt)]
        known = sum(word in self.known_words or word in ("a", "an", "in", "on", "is") for word in words)
        return 2 * known > len(words) or any(word in ENGLISH for word in words)

    def _toxic(self, owner: int) -> bool:
        return self.entries[owner].principle.risk == "toxicity"

    def _add(self, phrases: Iterable[str], role: str, owner: int, forms: Callable[[str], set[str]]) -> None:
        for phrase in phrases:
            among = self._about_persons if PERSON in phrase.split() else self._plain
            among.add(phrase, role, owner, forms)

    def _spelling_of(self, lexicon: Mapping[str, Sequence[str]]) -> Spelling:
        """What may be misspelt: the words of toxic kinds, and the longer occupations."""
        known = {form for word in lexicon.get(SPELT_RIGHT, ()) for form in plurals(word)}
        lists = [words for name, words in lexicon.items() if name != THINGS]
        for phrases in (*lists, *(e.names + e.persons + e.describes + e.unless for e in self.entries)):
            known.update(form for phrase in phrases for word in re.split(r"[ /]", phrase) for form in plurals(word))
        toxic = [e for e in self.entries if e.principle.risk == "toxicity"]
        terms = [term for e in toxic for term in e.lexicon if not re.search("[ /]", term) and len(term) >= MIN_LETTERS]
        targets = {form for term in terms for form in inflections(term) if not form.endswith(_COMPARED) or form == term}
        jobs = {form for job in lexicon["occupations"] if len(job) > MIN_LETTERS for form in plurals(job)}
        return Spelling(known, sorted(targets | jobs))

    def _persons(self, tokens: Sequence[Token], by_role: Mapping[str, list[Found]]) -> list[Found]:
        """The words that mean a person here; of overlapping ones the longest."""
        candidates = [item for role in ("people", "occupations", "persons") for item in by_role.get(role, ())]
        for item in by_role.get("nominals", ()):
            after = tokens[item.last] if item.last < len(tokens) else None
            if after is None or after.breaks or after.text in FOLLOWERS:
                candidates.append(item)
        excluded = cover(by_role.get("not_people", ())).get(-1)
        persons = []
        for item in longest(candidates):
            following = tokens[item.last].text if item.last < len(tokens) and not tokens[item.last].breaks else ""
            if tokens[item.last - 1].possessive and item.term not in PRONOUNS and following not in self._body:
                continue
            if following in self._objects and not tokens[item.last - 1].possessive:
                continue
            if overlapping(item, excluded) is None:
                persons.append(item)
        return persons

    def _naming(
        self, owner: int, tokens: Sequence[Token], by_role: Mapping[str, list[Found]], persons: Sequence[Found],
        harmless: Mapping[int, tuple[int, int]] | None,
    ) -> list[Found]:  # fmt: skip
        """The words that name the attribute of bias principle `owner`."""
        spans = {(item.first, item.last) for item in persons}
        naming = [item for item in by_role.get("names", ()) if item.owner == owner]
        naming += [i for i in by_role.get("persons", ()) if i.owner == owner and (i.first, i.last) in spans]
        starts, ends = {item.first for item in persons}, {item.last for item in persons}
        for item in by_role.get("describes", ()):
            if item.owner == owner and self._describes(item, tokens, starts, ends, copula=True):
                naming.append(item)
        return [i for i in longest(naming) if overlapping(i, harmless) is None]

    def _cues(
        self, entry: Entry, tokens: Sequence[Token], by_role: Mapping[str, list[Found]], persons: Sequence[Found]
    ) -> list[Found]:
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

    def _describes(
        self, item: Found, tokens: Sequence[Token], starts: set[int], ends: set[int], *, copula: bool
    ) -> bool:
        """Whether it describes a person: "a Black, smiling doctor", "a doctor who is Black", "a doctor, Black"."""
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
            if tokens[j].breaks or (tokens[j - 1].text not in COPULAS and tokens[j - 1].text not in self._modifiers):
                return False
        return False


def rank(principles: Sequence[Principle], scores: Mapping[str, float]) -> tuple[Principle, ...]:
    """Those that apply, the likeliest first; of equals the earlier."""
    applying = [principle for principle in principles if scores[principle.id] >= APPLIES]
    return tuple(sorted(applying, key=lambda principle: -scores[principle.id]))


def _evidence(prompt: str, tokens: Sequence[Token], first: int, last: int, reason: str) -> Evidence:
    start, end = tokens[first].start, tokens[last - 1].end
    return Evidence(prompt[start:end], start, end, reason)


def either(classes: Sequence[str]) -> str:
    """Classes as words.

    Example:
        >>> either(("white", "black", "asian"))
        'white, black or asian'
    """
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
