"""Files as others published them: the authors' value encoder and prompt format, weights of UCE and Concept Ablation."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import time
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from plans import edited_weights, latents_of
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel

from baselines import available, load_methods
from baselines.concept_ablation import ConceptAblation
from livo.diffusion.backbones import DOWNLOADED, Backbone, BackboneError, find_device, load_backbone
from livo.diffusion.engine import Engine
from livo.diffusion.latents import initial_noise
from livo.methods import livo as livo_method
from livo.methods.edited_weights import EditedProjections, ProjectionError, projection_weights
from livo.methods.livo import LiVO
from livo.methods.value_encoder import (
    ValueEncoder,
    ValueEncoderError,
    find_value_encoder,
    load_value_encoder,
    save_value_encoder,
)
from livo.types import Principle

PROMPT = "a photo of a doctor"
TOXIC = Principle("nudity", "nudity considered inappropriate", "toxicity", ("nudity",))
BIAS = Principle("gender_equality", "gender equality", "bias", ("male", "female"))


@pytest.fixture
def model(tiny_backbone) -> CLIPTextModel:
    torch.manual_seed(7)
    return CLIPTextModel(tiny_backbone.text_encoder.config).eval()


@pytest.fixture
def backbone(tiny_backbone, tmp_path) -> Backbone:
    """One from the hub: what is made for it lies elsewhere, and nothing has been made."""
    return dataclasses.replace(tiny_backbone, name="owner/some-model", folder=tmp_path / "owner--some-model")


# --- the value encoder -----------------------------------------------------------------------------------------------


def publish(model: CLIPTextModel, folder: Path, *, pickled: bool) -> Path:
    """As transformers 4 saved one: prefixed keys, the buffer of positions, a config with fields long gone."""
    save_value_encoder(model, folder)
    state = {key: tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items()}
    assert all(key.startswith("text_model.") for key in state)
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "_name_or_path": "x/y",
        "torch_dtype": "float32",
        "transformers_version": "4.38.2",
        "projection_dim": 768,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("pickled", [False, True])
def test_a_published_value_encoder_loads_exactly_from_its_subfolder(backbone, model, tmp_path, monkeypatch, pickled):
    snapshot = tmp_path / "snapshot"
    publish(model, snapshot / "value_encoder", pickled=pickled)
    asked = []

    def download(repository: str, revision, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((repository, revision, local_files_only))
        assert "value_encoder/model.safetensors" in allow_patterns and "value_encoder/config.json" in allow_patterns
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("livo.diffusion.hub.reachable", lambda: True)
    engine = Engine(backbone)
    livo = livo_method.load(engine, source="adstellaria/LiVO")
    assert asked == [("adstellaria/LiVO", None, False)]
    wanted = ValueEncoder(model, backbone.tokenizer).encode("gender equality", PROMPT)
    assert torch.equal(livo.value_encoder.encode("gender equality", PROMPT), wanted)
    assert livo.value_encoder.artefact.bytes > 100_000
    assert find_value_encoder(snapshot) == find_value_encoder(snapshot / "value_encoder") == snapshot / "value_encoder"


def test_a_value_encoder_that_cannot_be_had_says_what_to_give(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr("livo.diffusion.hub.reachable", lambda: True)
    with pytest.raises(ValueEncoderError, match="from the hub \\(achernarwang/LiVO: no such thing\\): check"):
        find_value_encoder("achernarwang/LiVO")
    for name in ("./no/such", "a/b/c", "/no/folder"):
        with pytest.raises(ValueEncoderError, match="no value encoder folder.*hub id such as adstellaria/LiVO"):
            find_value_encoder(name)


def refuse(*_, **__):
    raise OSError("no such thing\nat all")


def test_without_a_network_it_is_said_at_once_and_the_cache_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **given: asked.append(given) or refuse())
    began = time.monotonic()
    with pytest.raises(
        BackboneError,
        match="backbone owner/model@abc: the hub cannot be reached.*nothing of it is in the cache: check the id",
    ):
        load_backbone("owner/model@abc", "cpu")
    assert time.monotonic() - began < 10
    assert asked[0]["local_files_only"] is True and asked[0]["revision"] == "abc"
    assert asked[0]["allow_patterns"] is None  # what lies in the cache is taken as it is


class Evil:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_wants_to_run_code_is_refused(backbone, model, tmp_path):
    folder, mark = publish(model, tmp_path / "evil", pickled=True), tmp_path / "ran"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil(mark)}))
    with pytest.raises(ValueEncoderError, match="pytorch_model.bin cannot be read"):
        load_value_encoder(folder, backbone)
    deltas = backbone.folder / "concept_ablation"
    deltas.mkdir(parents=True)
    (deltas / "nudity.bin").write_bytes(pickle.dumps({"unet": Evil(mark)}))
    with pytest.raises(ProjectionError, match="nudity.bin cannot be read safely"):
        ConceptAblation(Engine(backbone))
    assert not mark.exists()


# --- the official prompt format --------------------------------------------------------------------------------------


def pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> StableDiffusionPipeline:
    """Fresh from disk, with the engine's solver."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, dtype=dtype)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def official_pipeline(folder: Path, value: Tensor, prompt: str, seeds) -> Tensor:
    """Latents as the authors' script samples: unpadded prompt of 76 tokens at most, value first, then the pipeline."""
    pipe = pipeline(folder, torch.float64)
    ids = pipe.tokenizer(prompt, return_tensors="pt", max_length=76, truncation=True).input_ids
    with torch.no_grad():
        embeds = torch.cat([value[None, None], pipe.text_encoder(ids)[0]], dim=1)
    return pipe(
        prompt_embeds=embeds, num_images_per_prompt=len(seeds), num_inference_steps=4, guidance_scale=5.0, height=16,
        width=16,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds], output_type="latent",
    ).images  # fmt: skip


@pytest.mark.parametrize("prompt", [PROMPT, "long " * 40])
def test_official_prompts_make_the_official_pipelines_latents(engine64, tiny_folder, options, monkeypatch, prompt):
    encoder = ValueEncoder.untrained(engine64.backbone)
    ask = options(seeds=(3, 1), num_inference_steps=4)
    plans = {
        "official": LiVO(engine64, encoder, official=True).plan(prompt, TOXIC, ask),
        "padded": LiVO(engine64, encoder).plan(prompt, TOXIC, ask),
    }
    found = latents_of(engine64, plans, monkeypatch)
    wanted = official_pipeline(tiny_folder, encoder.encode(TOXIC.text, prompt), prompt, ask.seeds)
    scale = wanted.abs().max()
    assert (found["official"] - wanted).abs().max() < 1e-9 * scale
    assert (found["padded"] - wanted).abs().max() > 1e-3 * scale, "else the option would do nothing"


def test_images_without_the_value_stay_stable_diffusions(engine64, options, monkeypatch):
    from baselines.stable_diffusion import StableDiffusion

    ask = options(seeds=(0, 1, 2, 3))
    livo = LiVO(engine64, ValueEncoder.untrained(engine64.backbone), official=True)
    plan = livo.plan(PROMPT, BIAS, ask)
    found = latents_of(engine64, {"livo": plan, "sd": StableDiffusion(engine64).plan(PROMPT, None, ask)}, monkeypatch)
    same = [torch.equal(ours, theirs) for ours, theirs in zip(found["livo"], found["sd"], strict=True)]
    assert same == [note == "no value" for note in plan.notes] and sum(same) == 2
    assert livo.at_rate(1.0).official


# --- weights of the baselines ----------------------------------------------------------------------------------------


def test_uces_official_file_is_read_as_it_is(backbone, options):
    edited = edited_weights(backbone.unet)
    (backbone.folder / "uce").mkdir(parents=True)
    save_file(
        {key: w.float().contiguous() for key, w in edited.items()}, backbone.folder / "uce" / "nudity.safetensors"
    )
    engine = Engine(backbone)
    uce = load_methods(["uce"], engine)["uce"].method
    plan = uce.plan(PROMPT, TOXIC, options())
    assert plan.branches["cond"][0].projection == "uce/nudity"
    kept = engine._projections["uce/nudity"]
    assert kept.keys() == {key.removesuffix(".weight") for key in edited} and len(kept) == len(
        projection_weights(backbone.unet)
    )
    assert all(torch.equal(kept[key.removesuffix(".weight")], weight) for key, weight in edited.items())


def test_uces_old_file_of_a_whole_unet_is_read(backbone):
    edited = edited_weights(backbone.unet)
    (backbone.folder / "uce").mkdir(parents=True)
    torch.save({**backbone.unet.state_dict(), **edited}, backbone.folder / "uce" / "nudity.pt")
    engine = Engine(backbone)
    EditedProjections(engine, "uce", "`python -m train.uce` makes it")
    assert all(
        torch.equal(engine._projections["uce/nudity"][key.removesuffix(".weight")], w) for key, w in edited.items()
    )


@pytest.mark.parametrize("group", ["cross-attn", "full-weight"])
def test_concept_ablations_delta_is_read(backbone, tiny_folder, options, group):
    state = {key: weight * 1.01 for key, weight in backbone.unet.state_dict().items()}
    if group == "cross-attn":
        state = {key: state[key] for key in projection_weights(backbone.unet)}
    folder = backbone.folder / "concept_ablation"
    folder.mkdir(parents=True)
    torch.save({"unet": state}, folder / "nudity.bin")
    engine = Engine(backbone)
    ablation = ConceptAblation(engine)
    plan = ablation.plan(PROMPT, TOXIC, options())
    assert (plan.unet_override is None) == (group == "cross-attn") and plan.branches["cond"][
        0
    ].projection == "concept_ablation/nudity"
    ours = engine.generate({"ca": plan})["ca"]

    pipe = pipeline(tiny_folder)
    pipe.unet.load_state_dict(state, strict=False)
    theirs = pipe(
        [PROMPT] * 2, num_inference_steps=3, guidance_scale=5.0, height=16, width=16, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
    ).images  # fmt: skip
    assert (ours - 255 * theirs).abs().max() <= 1.1
    assert ablation.artefact(TOXIC).bytes == (folder / "nudity.bin").stat().st_size


def test_files_of_another_model_and_two_files_for_one_principle(backbone):
    folder = backbone.folder / "concept_ablation"
    folder.mkdir(parents=True)
    torch.save(
        {"unet": {key: weight[:, :5].clone() for key, weight in projection_weights(backbone.unet).items()}},
        folder / "nudity.bin",
    )
    with pytest.raises(ProjectionError, match="nudity.bin was made for another backbone"):
        ConceptAblation(Engine(backbone))
    torch.save([1, 2], folder / "nudity.bin")
    with pytest.raises(ProjectionError, match="holds no U-Net weights by name"):
        ConceptAblation(Engine(backbone))
    torch.save({"unet": projection_weights(backbone.unet)}, folder / "nudity.bin")
    shutil.copy(folder / "nudity.bin", folder / "nudity.pt")
    with pytest.raises(ProjectionError, match="two files for nudity"):
        ConceptAblation(Engine(backbone))


# --- nothing made yet ------------------------------------------------------------------------------------------------


def test_what_is_missing_names_the_command_that_makes_it_for_this_backbone(backbone):
    entries = load_methods(available(), Engine(backbone))
    for id, entry in entries.items():
        if entry.method is None:
            assert f"--backbone {backbone.name}`" in entry.problem and "`python -m train." in entry.problem, (
                id,
                entry.problem,
            )
            assert str(backbone.folder) in entry.problem
    assert {id for id, entry in entries.items() if entry.method} == {"stable_diffusion", "fair_diffusion"}


def test_a_model_from_the_hub_keeps_its_artefacts_here(monkeypatch, tiny_folder):
    monkeypatch.setattr("livo.diffusion.backbones.fetch", lambda name, patterns: tiny_folder)
    assert load_backbone("owner/some-model@main", "cpu").folder == DOWNLOADED / "owner--some-model"


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for name in ("cuda", "mps", "cuda:1"):
        with pytest.raises(BackboneError, match="torch finds no .* --device cpu"):
            find_device(name)
    assert find_device().type == "cpu"


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0.51), ("float16", 3), ("bfloat16", 24)])
def test_every_precision_makes_the_pipelines_images(tiny_folder, options, dtype, most):
    from baselines.stable_diffusion import StableDiffusion

    engine = Engine(load_backbone(str(tiny_folder), "cpu", dtype))
    assert engine.backbone.dtype == getattr(torch, dtype)
    ours = engine.generate({"sd": StableDiffusion(engine).plan(PROMPT, None, options())})["sd"]
    noise = initial_noise((0, 1), (4, 8, 8), torch.float32)[0]  # on a CPU the same in every precision
    theirs = pipeline(tiny_folder, getattr(torch, dtype))(
        [PROMPT] * 2, num_inference_steps=3, guidance_scale=5.0, height=16, width=16, output_type="pt",
        latents=noise.to(getattr(torch, dtype)),
    ).images  # fmt: skip
    difference = (ours - 255 * theirs.float()).abs()
    assert difference.mean() < most / 2 and difference.max() < 4 * most and ours.float().std() > 20
