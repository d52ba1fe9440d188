"""Nothing that a rater receives tells what made an image, and nobody sees another's session."""

from __future__ import annotations

import io
import re

from PIL import Image
from raters import METHODS, Visitor

from livo.study.design import GOLD
from livo.study.study_file import LANGUAGES
from livo.study.web.server import STATIC


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
