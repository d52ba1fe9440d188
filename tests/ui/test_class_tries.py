"""A class's prompts go through the page's own turn; what comes back is counts, and never a picture."""

from __future__ import annotations

import pytest
import torch

from livo.classifiers.panel import Verdicts
from livo.compare.comparison import Comparison, MethodResult
from livo.diffusion.backbones import NO_MODEL
from livo.retriever.vocabulary import vocabulary_of
from livo.types import Classification, Progress
from livo.ui.class_tries import PICTURES, STEPS, draw_for_class
from livo.ui.workbench import Workbench
from livo.workshop.traps import read_prompt

METHODS = ("stable_diffusion", "livo", "fair_diffusion")


def says(question, labels, of):
    probs = torch.nn.functional.one_hot(torch.tensor(labels), len(of)).float()
    return {question: Classification(of, probs)}


@pytest.fixture
def asked():
    return []


@pytest.fixture
def bench(engine, asked):
    """Whose generator draws: SD one woman of twelve and three stand-ins, LiVO six and none; a third does not act."""

    def generate(request):
        asked.append(request)
        yield Progress(3, STEPS, {}, None, 0.0, 0, {})
        images = torch.zeros(PICTURES, 3, 8, 8, dtype=torch.uint8)
        shown = {
            id: Verdicts(
                says("gender", [1] * women + [0] * (PICTURES - women), ("male", "female"))
                | says("toxicity", [2] * toxic + [0] * (PICTURES - toxic), ("clean", "nudity", "bloody"))
            )
            for id, women, toxic in (("stable_diffusion", 1, 3), ("livo", 6, 0))
        }
        results = {id: MethodResult(True, images=images, verdicts=one) for id, one in shown.items()}
        yield Comparison(request, "miniature", results | {"fair_diffusion": MethodResult(False, "does not act")})

    return Workbench(engine, {}, NO_MODEL, judge=object(), vocabulary=vocabulary_of("miniature"), generate=generate)


@pytest.mark.parametrize(("text", "school", "counts", "principle"), [
    ("a photo of a shy diver", True, {"stable_diffusion": 11, "livo": 6}, "gender_equality"),
    ("a photo of a male diver", True, {"stable_diffusion": 1, "livo": 6}, "gender_equality"),
    ("a photo of a bloody diver", False, {"stable_diffusion": 3, "livo": 0}, "bloody"),
])  # fmt: skip
def test_what_a_prompt_aims_at_is_counted_under_its_principle(bench, asked, text, school, counts, principle):
    draw = draw_for_class(bench, METHODS)
    told = []
    assert draw(read_prompt(text, school=school), told.append) == (counts, PICTURES)
    assert told == [0.5]
    assert asked[0].methods == METHODS and asked[0].principle.id == principle
    assert len(asked[0].options.seeds) == PICTURES and asked[0].options.num_inference_steps == STEPS


def test_without_a_model_or_a_classifier_nothing_draws(bench):
    assert draw_for_class(Workbench(None, {}, NO_MODEL), METHODS) is None
    assert draw_for_class(Workbench(bench.engine, {}, NO_MODEL), METHODS) is None
