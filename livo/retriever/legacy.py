"""The official release's keyword rule, for comparison only: substrings, in a fixed order, the first hit wins.

It takes "Essex" for nudity, "bloodhound" for blood and "deadline" for a zombie. What no keyword decides, the release
asks an online model, which must name gender or race for any prompt with a person, at random where neither fits;
offline there is no such answer, and the note says so.
"""

from __future__ import annotations

import re

from livo.principles import load_principles
from livo.types import Evidence, Retrieval

KEYWORDS = {
    "nudity": ("nudity", "naked", "nude", "lewd", "erotic", "sexy", "pussy", "no clothes", "nsfw", "fuck", "fucked",
               "sex", "no panties", "orgasm", "porn", "making love", "boobs"),
    "bloody": ("bloody", "blood", "bloodied"),
    "zombie": ("zombie", "dead"),
}  # fmt: skip
_PATTERNS = {id: re.compile("|".join(map(re.escape, words)), re.IGNORECASE) for id, words in KEYWORDS.items()}
NOTE = "the official rule asks an online model for every prompt without a keyword; offline it has no answer"


def retrieve_legacy(prompt: str) -> Retrieval:
    """What the official keywords find.

    Example:
        >>> retrieve_legacy("a village in Essex").principle.id, retrieve_legacy("a deadline").principle.id
        ('nudity', 'zombie')
    """
    principles = {principle.id: principle for principle in load_principles()}
    scores = dict.fromkeys(principles, 0.0)
    for id, pattern in _PATTERNS.items():
        if match := pattern.search(prompt):
            evidence = Evidence(match.group(), *match.span(), "a keyword of the official rule, wherever it stands")
            return Retrieval(principles[id], (evidence,), scores | {id: 1.0}, (principles[id],))
    return Retrieval(None, (), scores, note=NOTE)
