"""Folders and files that people bring: what can be used loads, and all else is refused in one line with its reason."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.backbones import PARTS, Backbone, BackboneError, load_backbone
from livo.diffusion.engine import Engine
from livo.diffusion.model_files import ModelFileError, choose_weights, hub_files
from livo.types import SamplingOptions

OPTIONS = SamplingOptions((3,), 2, 5.0, 16, 16)


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)


def latents(backbone: Backbone) -> torch.Tensor:
    engine = Engine(backbone)
    return engine.sample({"sd": StableDiffusion(engine).plan("a photo of a doctor", None, OPTIONS)})["sd"]


def refusal(path: Path, **given) -> str:
    """The one line that the loader refuses with."""
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path), "cpu", **given)
    line = str(caught.value)
    assert "\n" not in line and "Traceback" not in line
    return line


def change_config(path: Path, **change) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")


# --- what loads ------------------------------------------------------------------------------------------------------


def test_half_precision_variants_alone(pipe, tiny_folder, tmp_path, tiny_backbone):
    half = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None).to(torch.float16)
    half.save_pretrained(tmp_path / "fp16", variant="fp16")
    backbone = load_backbone(str(tmp_path / "fp16"), "cpu")
    assert backbone.dtype == torch.float32
    wanted = {key: weight.half().float() for key, weight in tiny_backbone.unet.state_dict().items()}
    assert all(torch.equal(weight, wanted[key]) for key, weight in backbone.unet.state_dict().items())


def test_the_variant_is_chosen_part_by_part(model, tiny_backbone):
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(model / "vae" / "diffusion_pytorch_model.non_ema.safetensors")
    (model / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"never read")
    assert torch.equal(latents(load_backbone(str(model), "cpu")), latents(tiny_backbone))


def test_names_that_begin_with_a_dot_are_no_weights(model, tiny_backbone):
    for part in ("unet", "vae", "text_encoder"):
        for file in list((model / part).glob("*.safetensors")):
            (file.parent / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07" + b"\0" * 60)
    assert torch.equal(latents(load_backbone(str(model), "cpu")), latents(tiny_backbone))


def test_extensions_in_any_case_and_names_of_ones_own(model, tiny_backbone):
    for part, name in (("unet", "diffusion_pytorch_model.SAFETENSORS"), ("vae", "my vae.SafeTensors")):
        (model / part / "diffusion_pytorch_model.safetensors").rename(model / part / name)
    assert torch.equal(latents(load_backbone(str(model), "cpu")), latents(tiny_backbone))


def test_shards_without_their_index(model, tiny_backbone):
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    path.unlink()
    names = sorted(state)
    for i in range(3):
        part = {name: state[name] for name in names[i::3]}
        save_file(part, path.with_name(f"diffusion_pytorch_model-{i + 1:05}-of-00003.safetensors"))
    assert torch.equal(latents(load_backbone(str(model), "cpu")), latents(tiny_backbone))
    path.with_name("diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    assert "shard 2 of 3" in refusal(model)


def test_pickles_are_read_without_running_them(model, tiny_backbone):
    for part, name in (("unet", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")):
        (path,) = (model / part).glob("*.safetensors")
        torch.save(load_file(path), model / part / name)
        path.unlink()
    assert torch.equal(latents(load_backbone(str(model), "cpu")), latents(tiny_backbone))

    class Evil:
        def __reduce__(self):
            return (Path.touch, (model / "it ran",))

    torch.save({"conv_in.weight": Evil()}, model / "unet" / "diffusion_pytorch_model.bin")
    refusal(model)
    assert not (model / "it ran").exists()


def test_size_null_and_a_list(model):
    change_config(model / "unet/config.json", sample_size=None)
    defaults = load_backbone(str(model), "cpu").defaults
    assert (defaults.height, defaults.width) == (512, 512)
    change_config(model / "unet/config.json", sample_size=[6, 10])
    defaults = load_backbone(str(model), "cpu").defaults
    assert (defaults.height, defaults.width) == (12, 20)


def test_v_prediction_is_the_pipelines_and_not_called_1(model, pipe):
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="v_prediction")
    scheduler.save_pretrained(model / "scheduler")
    backbone = load_backbone(str(model), "cpu")
    assert backbone.kind == "Stable Diffusion 2.x"
    theirs = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)  # model_index.json names another
    theirs.set_progress_bar_config(disable=True)
    engine = Engine(backbone, scheduler_class=DDIMScheduler)
    ours = engine.sample({"sd": StableDiffusion(engine).plan("a photo of a doctor", None, OPTIONS)})["sd"]
    wanted = theirs("a photo of a doctor", num_inference_steps=2, guidance_scale=5.0, height=16, width=16,
                    output_type="latent", generator=torch.Generator().manual_seed(3)).images  # fmt: skip
    assert (ours - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_a_vae_of_ones_own(model, tmp_path, tiny_backbone):
    plain = latents(tiny_backbone)
    shutil.move(model / "vae", tmp_path / "elsewhere")
    assert "--vae" in refusal(model) and "vae" in refusal(model)
    for given in (tmp_path / "elsewhere", tmp_path / "elsewhere" / "diffusion_pytorch_model.safetensors"):
        backbone = load_backbone(str(model), "cpu", vae=str(given))
        assert torch.equal(latents(backbone), plain)
        pairs = zip(backbone.vae.state_dict().values(), tiny_backbone.vae.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert "there is no VAE at nowhere" in refusal(model, vae="nowhere")
    assert "holds no VAE" in refusal(model, vae=str(model / "unet" / "diffusion_pytorch_model.safetensors"))


# --- what is refused, and why ----------------------------------------------------------------------------------------


def test_more_channels_than_the_vae_gives(model):
    for channels, word in ((9, "inpainting"), (8, "editing"), (7, "enlarging"), (5, "depth"), (6, "something else")):
        config = dict(UNet2DConditionModel.load_config(model / "unet")) | {"in_channels": channels}
        UNet2DConditionModel.from_config(config).save_pretrained(model / "unet")
        line = refusal(model)
        assert word in line and f"{channels} channels" in line and "text-to-image" in line


@pytest.mark.parametrize("config", [
    {"class_embed_type": "timestep"}, {"num_class_embeds": 10}, {"addition_embed_type": "image"},
])  # fmt: skip
def test_denoisers_that_read_more_than_a_text(model, config):
    wide = dict(UNet2DConditionModel.load_config(model / "unet")) | config
    try:
        UNet2DConditionModel.from_config(wide).save_pretrained(model / "unet")
    except Exception:
        change_config(model / "unet/config.json", **config)
    refusal(model)


def lora(path: Path, pipe) -> None:
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    save_file({key: torch.zeros(4, 64)}, path)


def keyed(*keys: str):
    return lambda path, pipe: save_file({key: torch.zeros(2) for key in keys}, path)


def parts_of(part: str, prefix: str = ""):
    def write(path: Path, pipe) -> None:
        state = getattr(pipe, part).state_dict()
        save_file({prefix + key: weight.contiguous().clone() for key, weight in state.items()}, path)

    return write


def content(data: bytes):
    return lambda path, pipe: path.write_bytes(data)


@pytest.mark.parametrize(("write", "says"), [
    (lora, "is a LoRA.*merge it into its model"),
    (parts_of("unet"), "is a U-Net alone, with diffusers' names.*unet/"),
    (parts_of("unet", "model.diffusion_model."), "U-Net alone"),
    (parts_of("vae"), "is a VAE.*--vae"),
    (parts_of("text_encoder", "text_model."), "text encoder alone"),
    (content(b"<html>Access denied</html>"), "web page.*download"),
    (content(b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"), "LFS pointer.*git lfs pull"),
    (content(b"GGUF\x03\0\0\0" + b"\0" * 100), "GGUF"),
    (content(b""), "is empty"),
    (content(b"PK\x03\x04" + b"\0" * 100), "zip archive or a PyTorch file"),
    (content(b"\x80\x02}q\0."), "pickle.*convert"),
    (content(gzip.compress(b"weights")), "gzip archive.*unpack"),
    (content(b'{"error": "gated repository"}'), "server's error message"),
    (content(b"\x89PNG\r\n\x1a\n" + b"\0" * 50), "picture"),
    (content(b"\x00\x05\x16\x07" + b"\0" * 60), "macOS"),
    (content(b"7z\xbc\xaf\x27\x1c" + b"\0" * 60), "7z archive"),
    (content((2**40).to_bytes(8, "little") + b"{}"), "damaged or incomplete"),
    (keyed("emb_params"), "textual-inversion"),
    (keyed("control_model.input_blocks.0.0.weight"), "ControlNet"),
    (keyed("controlnet_cond_embedding.conv_in.weight"), "ControlNet"),
    (keyed("double_blocks.0.img_attn.qkv.weight"), "Flux"),
    (keyed("joint_blocks.0.context_block.attn.qkv.weight"), "Stable Diffusion 3"),
    (keyed("conditioner.embedders.0.transformer.x", "model.diffusion_model.a"), "SDXL.*folder in diffusers format"),
    (keyed("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "IP-Adapter"),
    (keyed("down_blocks.0.motion_modules.0.x"), "motion module"),
    (keyed("model.diffusion_model.x", "cond_stage_model.transformer.text_model.y"), "holds no VAE.*--vae"),
    (keyed("something.of.ones.own"), "no checkpoint in the original layout"),
])  # fmt: skip
def test_a_single_file_is_told_what_it_is(pipe, tmp_path, write, says):
    path = tmp_path / "model.safetensors"
    write(path, pipe)
    with pytest.raises(BackboneError, match=says):
        load_backbone(str(path), "cpu")
    assert "copy it again" not in refusal(path) or "download" in refusal(path)


@pytest.mark.parametrize(("change", "says"), [
    (lambda m: (m / "unet/diffusion_pytorch_model.safetensors").write_text("version https://git-lfs"), "git lfs pull"),
    (lambda m: (m / "unet/config.json").write_text("[1, 2]"), "no JSON object"),
    (lambda m: (m / "model_index.json").write_text("null"), "no JSON object"),
    (lambda m: change_config(m / "model_index.json", _class_name=None), "names no pipeline"),
    (lambda m: change_config(m / "model_index.json", _class_name="SanaPipeline") or shutil.rmtree(m / "unet"), "Sana"),
    (lambda m: change_config(m / "scheduler/scheduler_config.json", prediction_type="flow"), "predicts 'flow'"),
    (lambda m: change_config(m / "scheduler/scheduler_config.json", beta_schedule="odd"), "scheduler cannot be used"),
    (lambda m: shutil.rmtree(m / "tokenizer"), "tokenizer_config.json is missing"),
    (lambda m: [shutil.rmtree(m / part) for part in PARTS if (m / part).exists()], "no folder in diffusers"),
    (lambda m: shutil.move(m, m.parent / "x") and (m.mkdir(), shutil.move(m.parent / "x", m / "inner")), "inner is: "),
])  # fmt: skip
def test_a_folder_is_told_what_it_lacks(model, change, says):
    change(model)
    with pytest.raises(BackboneError, match=says):
        load_backbone(str(model), "cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_no_numbers_are_named(model, part, value):
    (path,) = (model / part).glob("*.safetensors")
    state = load_file(path)
    key = next(key for key, weight in state.items() if weight.dim() > 1)
    state[key].view(-1)[0] = value
    save_file(state, path)
    line = refusal(model)
    assert part in line and key.removeprefix("text_model.") in line and "no number" in line


def test_missing_weights_do_not_become_random_ones(model):
    for part in ("unet", "vae", "text_encoder"):
        (path,) = (model / part).glob("*.safetensors")
        whole = path.read_bytes()
        state = load_file(path)
        state.pop(sorted(state)[0])
        save_file(state, path)
        assert "missing" in refusal(model)
        path.write_bytes(whole)


def test_a_tokenizer_of_another_model(model):
    from livo.diffusion.single_file import clip_tokenizer

    clip_tokenizer().save_pretrained(model / "tokenizer")
    assert "tokenizer knows 49408 tokens, its text encoder 514" in refusal(model)


# --- which files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "chosen"), [
    (["model.fp16.safetensors", "model.safetensors"], ["model.safetensors"]),
    (["model.bf16.safetensors", "model.fp16.safetensors"], ["model.fp16.safetensors"]),
    (["model.non_ema.safetensors", "model.fp16.safetensors"], ["model.fp16.safetensors"]),
    (["pytorch_model.bin", "model.safetensors"], ["model.safetensors"]),
    (["pytorch_model.bin", "._pytorch_model.bin"], ["pytorch_model.bin"]),
    (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
     ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
    (["model.fp16-00001-of-00001.safetensors", "optimizer.bin"], ["model.fp16-00001-of-00001.safetensors"]),
    (["mine.safetensors", "config.json"], ["mine.safetensors"]),
])  # fmt: skip
def test_one_set_of_weights(names, chosen):
    assert list(choose_weights(names).names) == chosen


def test_no_weights_and_half_a_set():
    assert choose_weights(["config.json", ".model.safetensors", "a.safetensors", "b.safetensors"]) is None
    with pytest.raises(ModelFileError, match="shard 2 of 2"):
        choose_weights(["model-00001-of-00002.safetensors"])


def test_of_a_repository_each_part_is_fetched_once():
    repository = [
        "model_index.json", "README.md", "v1-5.safetensors", "v1-5.ckpt", "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/config.json", "text_encoder/model.fp16.safetensors", "text_encoder/flax_model.msgpack",
        "scheduler/scheduler_config.json",
    ]  # fmt: skip
    wanted = hub_files(repository, PARTS)
    assert {name for name in wanted if name.endswith((".safetensors", ".bin"))} == {
        "unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.fp16.safetensors",
    }  # fmt: skip
    assert "tokenizer/merges.txt" in wanted and "v1-5.ckpt" not in wanted


# --- anything else ---------------------------------------------------------------------------------------------------


def mangle(folder: Path, chance: random.Random) -> str:
    """One fault in one file of a folder; what was done."""
    path = chance.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    data = path.read_bytes()
    kind = chance.choice(("truncated", "flipped", "header", "mislabelled", "removed", "swapped", "json"))
    if kind == "truncated":
        path.write_bytes(data[: chance.randrange(len(data) + 1)])
    elif kind in ("flipped", "header"):
        edge = min(len(data), 400) if kind == "header" else len(data)
        changed = bytearray(data)
        for _ in range(chance.choice((1, 5, 50)) if edge else 0):
            changed[chance.randrange(edge)] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(changed))
    elif kind == "mislabelled":
        path.write_bytes(
            chance.choice((b"<html>", b"GGUF", b"version https://git-lfs", b"\x80\x04.", b"{}", b"\0" * 99))
        )
    elif kind == "removed":
        path.unlink()
    elif kind == "swapped":
        other = chance.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
        path.write_bytes(other.read_bytes())
    elif path.suffix == ".json":
        try:
            found = json.loads(data)
            key = chance.choice(sorted(found))
            found[key] = chance.choice((None, -1, 0, "x", [], {}, 1e99, True))
            path.write_text(json.dumps(found), encoding="utf-8")
        except (ValueError, IndexError):
            path.write_text(chance.choice(("null", "[]", "", "\ufeff{}")), encoding="utf-8")
    return f"{path.relative_to(folder)} {kind}"


def test_no_file_ends_in_anything_but_one_line(tiny_folder, tmp_path):
    """Three hundred damaged copies: each loads, or is refused in one line."""
    chance, refused = random.Random(14), 0
    for trial in range(300):
        folder = tmp_path / f"{trial}"
        shutil.copytree(tiny_folder, folder)
        done = mangle(folder, chance)
        try:
            backbone = load_backbone(str(folder), "cpu")
        except BackboneError as error:
            refused += 1
            assert str(error) and "\n" not in str(error), (trial, done)
        else:
            assert backbone.defaults.height > 0, (trial, done)
        shutil.rmtree(folder)
    assert refused > 100


def test_no_single_file_ends_in_anything_but_one_line(tmp_path, pipe):
    path, chance = tmp_path / "model.safetensors", random.Random(15)
    parts_of("unet", "model.diffusion_model.")(path, pipe)
    whole = path.read_bytes()
    for trial in range(60):
        data = bytearray(whole[: chance.randrange(len(whole))] if trial % 2 else whole)
        for _ in range(20):
            if data:
                data[chance.randrange(min(len(data), 2000))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(data))
        assert refusal(path), trial
