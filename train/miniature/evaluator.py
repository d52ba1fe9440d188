"""Stage 5: the evaluator, a small CLIP of its own: trained on rendered pictures, never on the generator's, and with
its own text tower. It answers by the similarity of a picture to one sentence per class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from livo.classifiers.clip import EVALUATOR_CONFIG, ImageQuestion, class_tokens, world_questions
from livo.miniature.world import Scene, World
from train.loop import descend, train
from train.miniature.data import Source, to_model_range


def label(question: str, scene: Scene) -> str | None:
    """What a scene shows, as the answer to a question; None where the picture cannot tell."""
    if question == "gender":
        return scene.gender
    if question == "tone":
        return None if scene.toxic == "zombie" else scene.tone  # a zombie's skin is green
    if question == "toxicity":
        return scene.toxic or "clean"
    if question == "occupation":
        if scene.toxic == "nudity" and scene.occupation is None:
            return "person"
        return scene.occupation or "person"
    if question == "adjective":
        return None if scene.toxic == "zombie" else scene.adjective or "plain"
    if question == "place":
        return scene.place or "plain"
    raise ValueError(f"the drawn world has no question {question!r}")


def augment(images: Tensor) -> Tensor:
    """Blur, noise and slight shifts of colour, so that the evaluator reads pictures softer than the renderer's.

    Args:
        images: (N, 3, H, W) in [-1, 1].
    """
    n = len(images)
    soft = nn.functional.avg_pool2d(nn.functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    mix = torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.7)
    images = images + mix * (soft - images)
    images = images + torch.randn_like(images) * 0.06 * torch.rand(n, 1, 1, 1)
    images = images + 0.05 * (torch.rand(n, 3, 1, 1) - 0.5)
    dx, dy = torch.randint(-2, 3, (2,)).tolist()
    return torch.roll(images, (dx, dy), (2, 3)).clamp(-1, 1)


def classification_loss(
    model: Any, questions: tuple[ImageQuestion, ...], features: Tensor, tokens: dict, batch: list
) -> tuple[Tensor, float]:
    """CLIP's loss with each question's sentences as the texts: cross-entropy of every picture over its classes."""
    loss, right, asked = torch.zeros(()), 0.0, 0
    texts = nn.functional.normalize(model.encode_text(torch.cat([tokens[q.name] for q in questions])), dim=-1)
    for question, text in zip(questions, texts.split([len(q.classes) for q in questions]), strict=True):
        answers = [label(question.name, scene) for scene, _ in batch]
        known = torch.tensor([answer is not None for answer in answers])
        target = torch.tensor([question.classes.index(answer) for answer in answers if answer is not None])
        logits = model.logit_scale.exp() * features[known] @ text.T
        loss = loss + nn.functional.cross_entropy(logits, target)
        right += (logits.argmax(1) == target).float().sum().item()
        asked += len(target)
    return loss, right / asked


def train_evaluator(
    world: World,
    source: Source,
    work: Path,
    *,
    config: Mapping[str, Any] = EVALUATOR_CONFIG,
    num_steps: int = 1500,
    batch_size: int = 96,
) -> nn.Module:
    """Train the evaluator on rendered pictures.

    The picture tower runs in bfloat16 with channels last: half the time where the processor knows bfloat16 (AMX), one
    percent off the gradient in float32. Weights, the text tower and the loss stay float32.
    """
    torch.manual_seed(3)
    model = open_clip.CLIP(**config).to(memory_format=torch.channels_last).train()
    questions = world_questions(world)
    tokens = {question.name: class_tokens(question) for question in questions}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2, betas=(0.9, 0.98))

    def learning_rate(i: int) -> float:
        return 2e-3 * min(1.0, (i + 1) / 150) * (0.02 + 0.49 * (1 + math.cos(math.pi * i / num_steps)))

    def step(i: int) -> dict[str, float]:
        torch.manual_seed(70_000 + i)
        batch = source.scenes(world, 80_000 + i, batch_size)
        images = augment(to_model_range(source.pictures(world, [s for s, _ in batch])))
        with torch.autocast("cpu", torch.bfloat16):
            features = model.encode_image(images.contiguous(memory_format=torch.channels_last))
        features = nn.functional.normalize(features.float(), dim=-1)
        loss, right = classification_loss(model, questions, features, tokens, batch)
        descend(loss, optimizer, learning_rate(i))
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)
        return {"loss": loss.item(), "right": right}

    train("evaluator", work / "evaluator.pt", {"model": model, "optimizer": optimizer}, num_steps, step)
    return model.eval()
