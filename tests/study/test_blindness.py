"""Nothing that a rater receives tells what made an image, and nobody sees another's session."""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter

from PIL import Image
from raters import METHODS, Visitor, make_folder
from starlette.testclient import TestClient

from livo.study.design import GOLD
from livo.study.study_file import LANGUAGES
from livo.study.web.server import STATIC, StudySite, build_site
from livo.web.events import Store, default_url
from livo.web.guard import Buckets


def leaks(text: str) -> list[str]:
    """Names of methods in a text, by id or title, as whole words."""
    names = {*METHODS, *METHODS.values(), "stable", "diffusion", "baselines"}
    return [name for name in names if re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z])", text, re.IGNORECASE)]


def test_leaks_are_found():
    assert leaks('{"file": "livo_seed42.png"}') and leaks("by UCE.") and not leaks("reduce, olivo")


def test_nothing_a_rater_receives_tells_what_made_an_image(rater, client, site):
    received: list[str] = []
    name = site.folder.name
    for path in (
        "",
        "organise",
        *(f"static/{file}" for file in STATIC),
        *(f"languages/{lang}.json" for lang in LANGUAGES),
    ):
        reply = client.get(f"/{name}/{path}")
        assert reply.status_code == 200
        received += [reply.text, str(reply.headers)]
    for i, trial in enumerate(rater.session["trials"]):
        if trial["category"] and i % 2:
            received.append(rater.send("reveal", trial=trial["trial"]).text)
        for side in range(trial["sides"]):
            reply = rater.get(f"image/{trial['trial']}/{side}")
            received.append(str(reply.headers))
            image = Image.open(io.BytesIO(reply.content))
            assert image.info == {} and not image.getexif() and (image.size == (16, 16) or image.size == (6, 6))
            assert not re.search(rb"tEXt|iTXt|zTXt|eXIf|tIME", reply.content)
        for question in range(len(trial["questions"])):
            received.append(rater.answer(trial, question).text)
    received += [rater.get("session").text, rater.get("image/x/0").text, client.get("/nowhere/").text]
    assert leaks("\n".join(received)) == []
    ids = set(site.folder.items)
    assert not any(id in text for id in ids for text in received), "items are named by tokens of the rater alone"


def test_a_cover_tells_no_method(rater, site):
    """All images of a prompt are covered, or none: where the judge flags one method alone, the others are too."""
    by_prompt: dict[str, set[bool]] = {}
    for item in site.folder.items.values():
        by_prompt.setdefault(item.prompt, set()).add(bool(item.category))
    assert all(len(covered) == 1 for covered in by_prompt.values()) and {True} in by_prompt.values()


def test_two_raters_never_see_each_other(rater, client, site):
    other = Visitor(client, site, site.folder.code(1)).consent()
    before = other.session
    for trial in rater.trials()[:5]:
        rater.answer(trial)
    assert other.session == before
    tokens = [{t["trial"] for t in visitor.session["trials"]} for visitor in (rater, other)]
    assert not tokens[0] & tokens[1]


def test_nothing_that_a_browser_receives_tells_a_check_from_a_rating(site, client):
    """Every field of a trial, its place aside, takes the same values for checks as for ratings of the same prompts."""
    checks, others = [], []
    for rater in range(site.folder.study.raters):
        visitor = Visitor(client, site, site.folder.code(rater)).consent()
        kinds = {trial.token: trial.kind for trial in site.sessions.plan(rater).trials}
        trials = [t for t in visitor.trials() if t["sides"] == 1]
        for trial in trials:
            seen = {name: value for name, value in trial.items() if name != "trial"}
            (checks if kinds[trial["trial"]] == GOLD else others).append(seen)
    assert len(checks) >= 4
    for check in checks:
        alike = [other for other in others if other["prompt"] == check["prompt"]]
        assert check in alike or not alike, check
        assert any(len(other["questions"]) == len(check["questions"]) for other in others)


# --- a guesser who reads everything ----------------------------------------------------------------------------------


def guessed(seen: list[dict[str, str]], truth: list[str], half: list[bool]) -> list[str]:
    """What naive Bayes makes of everything seen, of trials for which `half` is False, having learnt from the others."""
    classes = sorted(set(truth))
    count = Counter(t for t, known in zip(truth, half, strict=True) if known)
    table = Counter(
        (t, name, value)
        for features, t, known in zip(seen, truth, half, strict=True) if known for name, value in features.items()
    )  # fmt: skip
    size = {name: len({features.get(name) for features in seen}) for features in seen for name in features}

    def score(features: dict[str, str], t: str) -> float:
        return math.log(count[t] + 1) + sum(
            math.log((table[t, name, value] + 1) / (count[t] + size[name])) for name, value in features.items()
        )

    rows = [features for features, known in zip(seen, half, strict=True) if not known]
    return [max(classes, key=lambda t: score(features, t)) for features in rows]


def skill(seen: list[dict[str, str]], truth: list[str], half: list[bool]) -> tuple[float, float]:
    """Share of guesses that are right, and what chance gets at most: 3 standard errors above the most frequent."""
    said = guessed(seen, truth, half)
    real = [t for t, known in zip(truth, half, strict=True) if not known]
    chance = max(Counter(real).values()) / len(real)
    right = sum(a == b for a, b in zip(said, real, strict=True)) / len(real)
    return right, chance + 3 * math.sqrt(chance * (1 - chance) / len(real))


def received(visitor: Visitor, trials: list[dict], at: int) -> dict[str, str]:
    """All that a browser is told about a trial, as named features: fields, tokens, headers, sizes, place, receipts."""
    trial = trials[at]
    seen = {name: json.dumps(value) for name, value in trial.items() if name not in ("trial", "questions")}
    seen |= {f"token {i}": trial["trial"][i] for i in (0, 1, 9, 19)} | {"token": str(len(trial["trial"]))}
    seen |= {"questions": str(len(trial["questions"])), "asked": json.dumps(trial["questions"])}
    seen |= {f"place by {n}": str(at % n) for n in (2, 3, 5, 6)} | {"place": str(at // 5)}
    for step in (-1, 1):
        if 0 <= at + step < len(trials):
            seen[f"as {step}"] = str([trials[at + step][name] == trial[name] for name in ("prompt", "questions")])
    for side in range(trial["sides"]):
        if trial["category"] and at % 2:
            seen["revealed"] = str(sorted(visitor.send("reveal", trial=trial["trial"]).json()))
        reply = visitor.get(f"image/{trial['trial']}/{side}")
        seen |= {f"{side} {name}": value for name, value in reply.headers.items() if name != "content-length"}
        seen |= {f"{side} size": str(len(reply.content) // 8), f"{side} start": reply.content[:45].hex()}
    if not trial["category"]:
        reply = visitor.answer(trial)
        seen |= {"receipt": str(sorted(reply.json())), "receipt's headers": str(sorted(reply.headers))}
    return seen


def test_who_reads_everything_guesses_method_and_check_no_better_than_chance(tmp_path):
    """Every kind of trial: one picture and two, covered, uncovered and plain, ratings and silent checks."""
    folder = make_folder(
        tmp_path / "study", prompts=4, toxic=2, seeds=3, raters=16, ratings_per_rater=18, pairs_per_rater=6,
        questions=("consistency_5", "attribute", "toxic", "conformity", "preference"), gold_every=5, training=1,
    )  # fmt: skip
    site = StudySite(folder, Store(default_url(folder.path), folder.digest, folder.secret))
    client = TestClient(build_site([site]), raise_server_exceptions=False)
    site._events = Buckets(1_000_000, 1_000_000.0)
    seen, kinds, methods, pairs, half, prompts = [], [], [], [], [], []
    for rater in range(site.folder.study.places):
        visitor = Visitor(client, site, site.folder.code(rater)).consent()
        planned = {trial.token: trial for trial in site.sessions.plan(rater).trials}
        trials = visitor.trials()
        for at, trial in enumerate(trials):
            of = planned[trial["trial"]]
            seen.append(received(visitor, trials, at))
            kinds.append(of.kind)
            methods.append(site.folder.items[of.items[0]].method)
            pairs.append(trial["sides"] == 2)
            half.append(rater % 2 == 0)
            prompts.append(trial["prompt"])
    assert len(seen) >= 300 and {GOLD, "rating", "pair"} == set(kinds)
    assert {features["0 x-veiled"] for features in seen} == {"0", "1"}

    def told(keep: list[bool], truth: list[str]) -> tuple[float, float]:
        rows = [i for i, kept in enumerate(keep) if kept]
        return skill([seen[i] for i in rows], [truth[i] for i in rows], [half[i] for i in rows])

    for keep in ([kind == "rating" for kind in kinds], pairs):
        right, chance = told(keep, methods)
        assert right <= chance
    checked = {prompt for prompt, kind in zip(prompts, kinds, strict=True) if kind == GOLD}
    single = [not two and prompt in checked for two, prompt in zip(pairs, prompts, strict=True)]
    right, chance = told(single, kinds)
    assert right <= chance, "a check among ratings of the same prompts"

    site.store.close()
    # The guesser is no fool: what the study of an earlier day gave away, one question and a fixed place, it finds.
    for i, kind in enumerate(kinds):
        seen[i] = seen[i] | {"questions": "1" if kind == GOLD else "3"}
    right, chance = told(single, kinds)
    assert right > chance and right > 0.95
