"""Stage 1b: the text encoder, taught what captions say before the denoiser ever sees it, as CLIP's is.

CLIP's text encoder learns from captions beside their pictures, and so knows both what a caption says and what such
pictures tend to show: "doctor" leans male in it before any picture is made. Here linear probes play the picture's part:
they read every label of a caption, and the gender and tone that were drawn, from the end-of-text token and from the
padding after it, so that the whole caption stands at every position the denoiser attends to. They are thrown away.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from livo.miniature.world import GENDERS, World
from train.loop import train
from train.miniature.data import Source
from train.miniature.vocabulary import MAX_LENGTH

UNNAMED = "unnamed"


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Width 128, three layers, four heads; about 0.75M parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            projection_dim=128,
        )
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(N, 77) token ids, padded and truncated."""
    return tokenizer(
        captions, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def caption_labels(world: World, batch: list) -> dict[str, tuple[list[str], list[str]]]:
    """Classes and labels of N captions by attribute: what they say ("unnamed" where they do not) and what was drawn."""
    names = {
        "occupation": [UNNAMED, *world.occupations],
        "adjective": [UNNAMED, *world.adjectives],
        "place": [UNNAMED, *world.places],
        "age": [UNNAMED, *world.ages],
        "toxic": [UNNAMED, *world.toxic],
        "lookalike": [UNNAMED, *world.lookalikes],
    }
    labels = {key: (classes, [getattr(scene, key) or UNNAMED for scene, _ in batch]) for key, classes in names.items()}
    gender_words = {"woman": "female", "women": "female", "man": "male", "men": "male"} | {g: g for g in GENDERS}
    named = [next((gender_words[w] for w in text.split() if w in gender_words), UNNAMED) for _, text in batch]
    labels["gender"] = ([UNNAMED, *GENDERS], named)
    tones = [scene.tone if f"with {scene.tone} skin" in text else UNNAMED for scene, text in batch]
    labels["tone"] = ([UNNAMED, *world.tones], tones)
    labels["drawn gender"] = (list(GENDERS), [scene.gender for scene, _ in batch])
    labels["count"] = (["1", "2"], [str(scene.count) for scene, _ in batch])
    labels["drawn tone"] = (list(world.tones), [scene.tone for scene, _ in batch])
    return labels


def train_text_encoder(
    world: World, source: Source, tokenizer: CLIPTokenizer, work: Path, *, num_steps: int = 500, batch_size: int = 128
) -> CLIPTextModel:
    """Train on captions alone; no picture is drawn."""
    torch.manual_seed(1)
    model = build_text_encoder(tokenizer).train()
    sizes = {key: len(classes) for key, (classes, _) in caption_labels(world, source.scenes(world, 0, 2)).items()}
    probes = nn.ModuleDict({key: nn.Linear(128, size) for key, size in sizes.items()})
    optimizer = torch.optim.AdamW([*model.parameters(), *probes.parameters()], lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=num_steps, pct_start=0.1)

    def step(i: int) -> dict[str, float]:
        torch.manual_seed(30_000 + i)
        batch = source.scenes(world, 40_000 + i, batch_size)
        ids = tokenize(tokenizer, [text for _, text in batch])
        out = model(ids)
        end = (ids == tokenizer.eos_token_id).int().argmax(1)
        place = torch.stack([torch.randint(int(e), MAX_LENGTH, ()) for e in end])
        states = torch.cat([out.pooler_output, out.last_hidden_state[torch.arange(len(ids)), place]])
        loss = right = torch.zeros(())
        for key, (classes, names) in caption_labels(world, batch).items():
            target = torch.tensor([classes.index(name) for name in names]).repeat(2)
            logits = probes[key](states)
            loss = loss + nn.functional.cross_entropy(logits, target)
            right = right + (logits.argmax(1) == target).float().mean() / len(sizes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        return {"loss": loss.item(), "labels read": right.item()}

    parts = {"model": model, "probes": probes, "optimizer": optimizer, "schedule": schedule}
    train("text encoder", work / "text_encoder.pt", parts, num_steps, step)
    return model.eval()


def principle_words() -> list[str]:
    """Words of the canonical principles, so that the value encoder reads each as one token."""
    from livo.principles import load_principles

    return sorted({word for principle in load_principles() for word in principle.text.lower().split()} | {","})
