"""A preference data build at tiny size, and a judge that reads pixel sums: for the tests of builds and trainings."""

from __future__ import annotations

import torch

from livo.miniature.world import load_world
from livo.types import Classification
from train.preference_data.build import BuildPlan
from train.preference_data.scenarios import drawn
from train.preference_data.settings import SampleSettings

TINY = SampleSettings(1, 5.0, 16, 16, unspecified_images=8, cell_images=2, toxic_images=8, trust_prompts=True)
CLASSES = {"gender": ("male", "female"), "tone": tuple(load_world().tones), "toxicity": ("clean", "toxic")}


class SidedJudge:
    """Sure that everything is male and very light; every other picture, by its pixels' sum, is toxic."""

    questions = tuple(CLASSES)

    def __call__(self, images, question):
        classes = CLASSES[question]
        index = torch.zeros(len(images), dtype=torch.long)
        if question == "toxicity":
            index = images.long().sum((1, 2, 3)) % 2
        return Classification(classes, torch.nn.functional.one_hot(index, len(classes)).float())


def tiny_plan(**changes) -> BuildPlan:
    train, evaluation = drawn(load_world(), {"career": 2, "nudity": 2, "horror": 1})
    made_by = {"generator": "tiny", "generator_digest": "0", "judge": "sided", "judge_digest": "0", "licence": "mit"}
    return BuildPlan(TINY, tuple(train), tuple(evaluation), made_by | changes)
