"""The parts that every edition's generator is made of: tokenizer, text encoder, pictures by seed, denoiser."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import CLIPTokenizer

from livo.miniature.captions import vocabulary
from livo.miniature.renderer import SIZE
from livo.miniature.world import load_world
from train.loop import train
from train.miniature import autoencoder, denoiser
from train.miniature.data import Source, render_batch, scenes, to_model_range
from train.miniature.text_encoder import UNNAMED, build_text_encoder, caption_labels, principle_words, tokenize
from train.miniature.vocabulary import build_tokenizer, keep_tokenizer, learn_merges, write_tokenizer_files

WORLD = load_world()
ROOT = Path(__file__).resolve().parents[2]
WORDS = sorted({*vocabulary(WORLD), *principle_words()})


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(WORDS)


# --- tokenizer --------------------------------------------------------------------------------------------------------


def test_every_word_of_the_world_and_of_the_principles_is_one_token(tokenizer):
    assert {"doctor", "zombie", "equality", "inappropriate", ","} <= set(WORDS)
    ids = [tokenizer(word).input_ids for word in WORDS]
    assert all(len(i) == 3 for i in ids) and len({i[1] for i in ids}) == len(WORDS)
    text = "a photo of a smiling female baker with dark skin in a forest"
    assert len(tokenizer(text).input_ids) == len(text.split()) + 2
    assert len(tokenizer("gender equality, a photo of a doctor").input_ids) == 8 + 2


@pytest.mark.parametrize("text", ["zebra", "a photo of a quantum plumberess", "médecin", "医生", "x1y2 !?", "🙂"])
def test_unknown_words_fall_back_to_pieces_and_come_back_whole(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids[1:-1] and len(ids) > 2
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_it_is_built_the_same_in_every_process(tokenizer):
    code = (
        "import sys; from train.miniature.vocabulary import learn_merges; print(learn_merges(sys.argv[1].split(' ')))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, " ".join(WORDS)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=ROOT, capture_output=True, text=True, check=True,
        )
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0].stdout == runs[1].stdout == f"{learn_merges(WORDS)}\n"


def test_a_resumed_run_keeps_the_tokenizer_that_its_text_encoder_read(tmp_path):
    first = keep_tokenizer(["nurse", "a"], tmp_path)
    again = keep_tokenizer(["nurse", "a", "yak"], tmp_path)
    assert again.get_vocab() == first.get_vocab() == build_tokenizer(["nurse", "a"]).get_vocab()
    assert again.model_max_length == 77


def test_it_survives_saving_in_both_layouts(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "new")
    write_tokenizer_files(tokenizer, tmp_path / "new")
    old = tmp_path / "old"
    old.mkdir()
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "new" / name).rename(old / name)
    texts = ["a photo of a doctor", "zebra ünknown 医生", "", "gender equality, a photo of a doctor"]
    for folder in (tmp_path / "new", old):
        loaded = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
        assert loaded.get_vocab() == tokenizer.get_vocab()
        for text in texts:
            assert loaded(text).input_ids == tokenizer(text).input_ids
    loaded = CLIPTokenizer.from_pretrained(tmp_path / "new")
    assert loaded.model_max_length == 77
    assert tokenize(loaded, texts).shape == (4, 77) and tokenize(loaded, ["x " * 500])[0, -1] == tokenizer.eos_token_id


def test_a_word_with_a_space_is_refused():
    with pytest.raises(ValueError, match="holds no space.*police officer"):
        build_tokenizer(["nurse", "police officer"])
    with pytest.raises(ValueError, match="splits words it was built from.*x-ray"):
        build_tokenizer(["nurse", "x-ray"])


# --- text encoder -----------------------------------------------------------------------------------------------------


def test_labels_say_what_a_caption_says_and_what_was_drawn():
    batch = scenes(WORLD, 9, 400)
    labels = caption_labels(WORLD, batch)
    assert set(labels) == {
        "occupation",
        "adjective",
        "place",
        "age",
        "toxic",
        "lookalike",
        "gender",
        "tone",
        "drawn gender",
        "drawn tone",
        "count",
    }
    for key, (classes, names) in labels.items():
        assert len(names) == 400 and set(names) <= set(classes) and len(set(classes)) == len(classes)
        assert (classes[0] == UNNAMED) == (key != "count" and not key.startswith("drawn"))
    for i, (scene, text) in enumerate(batch):
        said = {key: names[i] for key, (_, names) in labels.items()}
        assert said["drawn gender"] == scene.gender and said["drawn tone"] == scene.tone
        words = text.split()
        assert (said["gender"] != UNNAMED) == bool({"male", "female", "man", "woman", "men", "women"} & set(words)), (
            text
        )
        assert said["gender"] in (UNNAMED, scene.gender) and said["tone"] in (UNNAMED, scene.tone)
        assert (said["tone"] != UNNAMED) == (" skin" in text)
        assert said["occupation"] == (scene.occupation or UNNAMED) and said["toxic"] == (scene.toxic or UNNAMED)
    assert 0.2 < labels["gender"][1].count(UNNAMED) / 400 < 0.8


def test_the_end_token_that_transformers_pools_is_the_tokenizers(tokenizer):
    model = build_text_encoder(tokenizer).eval()
    ids = tokenize(tokenizer, ["a photo of a doctor", "a photo of a smiling nurse"])
    with torch.no_grad():
        out = model(ids)
    end = (ids == tokenizer.eos_token_id).int().argmax(1)
    assert end.tolist() == [6, 7]
    assert torch.equal(out.pooler_output, out.last_hidden_state[torch.arange(2), end])


# --- autoencoder ------------------------------------------------------------------------------------------------------


def test_the_preview_map_is_found_where_there_is_one():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(6, 4, 8, 8, generator=generator)
    wanted = torch.randn(5, 3, generator=generator)
    colours = torch.einsum("nchw,cr->nrhw", latents, wanted[:-1]) + wanted[-1][:, None, None]
    images = colours.repeat_interleave(4, 2).repeat_interleave(4, 3)
    found = torch.tensor(autoencoder.fit_latent_rgb(latents, images))
    assert found.shape == (5, 3) and torch.allclose(found, wanted, atol=1e-4)


def test_pictures_are_rendered_by_seed_into_the_models_range():
    first, again = (scenes(WORLD, 3, 4) for _ in range(2))
    assert first == again != scenes(WORLD, 4, 4)
    images = render_batch(WORLD, [scene for scene, _ in first])
    assert images.shape == (4, 3, SIZE, SIZE) and images.dtype == torch.uint8 and images.is_contiguous()
    x = to_model_range(torch.tensor([0, 255], dtype=torch.uint8))
    assert x.tolist() == [-1.0, 1.0]


# --- denoiser ---------------------------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """Stands where the U-Net does and notes what it is given."""

    def __init__(self, seen: list) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)
        self.seen = seen

    def __deepcopy__(self, memo):
        return Recorder([])

    def forward(self, x, t, context):
        self.seen.append((context[:, 0, 0].tolist(), t.tolist()))
        return SimpleNamespace(sample=self.layer(x))


def record(monkeypatch, work, num_steps: int, pictures: int = 40, kill_at: int | None = None) -> list:
    """Which captions (by number, -1 the empty one) and timesteps every step reads."""
    seen: list = []
    model = Recorder(seen)

    def build(channels):
        if kill_at is not None:
            model.register_forward_pre_hook(
                lambda *_: (_ for _ in ()).throw(Killed()) if len(seen) == kill_at else None
            )
        return model

    monkeypatch.setattr(denoiser, "build_denoiser", build)
    monkeypatch.setattr(denoiser, "train", functools.partial(train, save_every_seconds=-1))
    embeds = torch.arange(pictures).view(-1, 1, 1).expand(-1, 2, 3).half()
    latents = torch.randn(pictures, 4, 2, 2, generator=torch.Generator().manual_seed(0)).half()
    with contextlib.suppress(Killed):
        denoiser.train_denoiser(work, latents, embeds, torch.full((2, 3), -1.0), num_steps=num_steps, batch_size=4)
    return seen


class Killed(BaseException):
    pass


def test_the_data_order_depends_on_the_step_alone(monkeypatch, tmp_path):
    whole = record(monkeypatch, tmp_path / "whole_work", 70)
    assert len(whole) == 70
    killed = record(monkeypatch, tmp_path / "killed", 70, kill_at=63)
    resumed = record(monkeypatch, tmp_path / "killed", 70)
    assert killed == whole[:63] and resumed == whole[50:], (
        "it goes on at step 50, with the same pictures and noise levels"
    )


def test_an_epoch_shows_every_picture_once_in_a_new_order_and_drops_a_tenth(monkeypatch, tmp_path):
    seen = record(monkeypatch, tmp_path, 100)
    epochs = [[int(n) for numbers, _ in seen[k : k + 10] for n in numbers] for k in range(0, 100, 10)]
    for epoch in epochs:
        counts = Counter(n for n in epoch if n >= 0)
        assert max(counts.values()) == 1 and len(epoch) == 40
    assert epochs[0] != epochs[1]
    dropped = sum(epoch.count(-1) for epoch in epochs) / 400
    assert abs(dropped - 0.1) < 4 * math.sqrt(0.09 / 400)
    timesteps = [t for _, ts in seen for t in ts]
    assert min(timesteps) < 50 and max(timesteps) > 950 and abs(sum(timesteps) / 400 - 499.5) < 60


def test_pictures_are_encoded_once_and_kept(tmp_path):
    few = Source(lambda world, seed, count: scenes(world, seed, min(count, 3)), render_batch)
    torch.manual_seed(0)
    vae = autoencoder.build_autoencoder().eval()
    latents, captions = denoiser.encode_pictures(WORLD, few, vae, tmp_path, count=1000)
    assert latents.shape == (6, vae.config.latent_channels, 16, 16) and latents.dtype == torch.float16
    assert captions == [text for first in (50_000, 50_500) for _, text in scenes(WORLD, first, 3)]
    nothing = Source(None, None)  # a second call must not draw
    again, kept = denoiser.encode_pictures(WORLD, nothing, vae, tmp_path, count=1000)
    assert torch.equal(again, latents) and kept == captions


def test_the_noise_schedule_is_stable_diffusions():
    schedule = denoiser.build_noise_schedule()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert (
        torch.allclose(schedule.alphas_cumprod, torch.cumprod(1 - betas, 0))
        and schedule.config.prediction_type == "epsilon"
    )
