"""What a study promises before its first answer: design, questions, exclusion and analysis, in one file with a digest.

The digest is an event of the organiser's in the store, which orders it before every answer; it freezes the study's
files as an answer does. Reports carry it, and say where the file is not the one that was registered.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from livo.measures.bootstrap import LEAST
from livo.study.answers import EventSource
from livo.study.organise import outlook
from livo.study.planning import POWER
from livo.study.quality import RULES
from livo.study.questions import Question
from livo.study.study_file import CORRECTIONS, StudyFolder
from livo.types import InputError
from livo.web.events import ORGANISER, Draft, Event, Store

FILE = "preregistration.md"
REGISTERED, CORRECTED = "preregistered", "corrected"
FIGURES = {
    "consistency": "semantic consistency: the mean in [0, 100] by method",
    "quality": "perceptual quality: the mean in [0, 100] by method",
    "attribute": "bias: D1 and D2 of the labels that most raters gave, mean over prompts, by method",
    "toxicity": "Avg. R: the share of pictures that most raters called disturbing, mean over prompts, by method",
    "conformity": "the share of yes among yes and no, by method",
}


def preregistration(folder: StudyFolder) -> str:
    """The file, in Markdown; the same at every call. Methods are not in it: raters may read it."""
    study, plan = folder.study, outlook(folder)
    uses = Counter(item.use for item in folder.items.values())
    rated = [item for item in folder.items.values() if item.use == "rated"]
    gaps = [row["detectable"] for row in plan["differences"] if row["detectable"] is not None]
    widest = f"{max(gaps):.1f} points of 100" if gaps else "none: no interval is printed below so few raters or prompts"
    chosen = [f"- {rule}: {RULES[rule]}" for rule in study.exclude] or ["- None: no rater is left out."]
    per = plan["raters_per_image"]
    lines = [
        f"# Preregistration: {study.title}",
        f"Study files (SHA-256 of study.yaml and items.json): `{folder.digest}`",
        "## Design",
        f"- {len(rated)} pictures of {len({i.method for i in rated})} methods and {len({i.prompt for i in rated})} "
        f"prompts; {uses['gold']} silent checks, {uses['training']} for training.",
        f"- {study.raters} raters, {study.ratings_per_rater} pictures and {study.pairs_per_rater} pairs each, "
        f"{per['least']} to {per['most']} raters a picture. Order: Latin square over prompts, Williams square within "
        f"blocks, seed {study.seed}. Raters are blind to the method.",
        f"- Training: {study.training} pictures; to go on, {100 * study.training_pass:.0f} % right at the first try. "
        f"Smallest difference of two methods' mean ratings found with {100 * POWER:.0f} % power: {widest}.",
        "- Nothing is looked at before all places are filled, nor is the number of raters chosen by results.",
        "## Questions",
        *map(_question_line, study.asked),
        *(f"- of the rater: {_question_line(question)[2:]}" for question in study.asked_of_raters),
        "## Exclusion",
        "A rater is left out of every figure who meets one of these rules, and no other:",
        *chosen,
        "Questions about a covered picture that was not uncovered, and withdrawn raters, are in no figure.",
        "## Analysis",
        *(f"- {text}" for measure, text in FIGURES.items() if study.measuring(measure)),
        *(["- P(A > B) with ties half, and Bradley-Terry with ties"] if study.pairs_per_rater else []),
        "- Krippendorff's alpha of each question and principle.",
        f"Intervals are 95 %, over raters and prompts; none below {LEAST} of either. Two methods differ where the "
        "interval of their paired difference excludes 0. `study report` makes all of it.",
    ]
    return "\n\n".join(lines) + "\n"


def _question_line(question: Question) -> str:
    said = question.label.get("en") or next(iter(question.label.values()), "the standard one of this name")
    values = ", ".join(map(str, question.values)) or ("0 to 100" if question.kind == "slider" else "free")
    when = f", where {question.shown_when.question} was answered so" if question.shown_when else ""
    return f"- `{question.id}` ({question.kind}: {values}{when}): {said}"


def preregister(folder: StudyFolder, store: Store) -> str:
    """Writes the file and stores its digest; the digest.

    Raises:
        InputError: an answer was given before, or another file was registered.
    """
    events = store.events()
    if any(event.stream != ORGANISER for event in events):
        raise InputError("somebody has begun already: a preregistration is made before the first rater comes")
    text = preregistration(folder)
    digest = hashlib.sha256(text.encode()).hexdigest()
    before = [event for event in events if event.kind == REGISTERED]
    if before and before[-1].body["digest"] != digest:
        raise InputError(f"another preregistration is stored, of {before[-1].at}: make a new study in another folder")
    (folder.path / FILE).write_text(text, encoding="utf-8")
    if not before:
        store.append(Draft(ORGANISER, f"registered-{digest[:32]}", REGISTERED, {"digest": digest}))
    return digest


def note_corrections(folder: StudyFolder, store: Store) -> None:
    """Stores which corrections hold from now on, where they are others than before."""
    path = folder.path / CORRECTIONS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    known = [event.body["text"] for event in store.events(ORGANISER) if event.kind == CORRECTED]
    if text != (known[-1] if known else ""):
        store.append(Draft(ORGANISER, f"corrected-{folder.opaque('corrected', len(known))}", CORRECTED, {"text": text}))


def promises(folder: StudyFolder, store: EventSource) -> list[str]:
    """What a report says of the preregistration and of later corrections, a line each."""
    events = store.events()
    lines = [_registered_line(folder, event, events) for event in events if event.kind == REGISTERED][:1]
    versions = [event.at for event in events if event.kind == CORRECTED]
    if versions:
        lines.append(
            f"{CORRECTIONS}: {len(versions)} versions, of {', '.join(versions)}; no rater's plan depends on it."
        )
    return lines or ["Not preregistered."]


def _registered_line(folder: StudyFolder, event: Event, events: list[Event]) -> str:
    path = folder.path / FILE
    now = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    first = min((other.at for other in events if other.stream != ORGANISER), default=event.at)
    digest = event.body["digest"]
    order = "before the first rater came" if event.at <= first else "AFTER the first rater came"
    whole = f"SHA-256 {digest}" if now == digest else f"but {FILE} is NOT the file of SHA-256 {digest} that it was"
    return f"Preregistered {event.at}, {order}, in {FILE}: {whole}."
