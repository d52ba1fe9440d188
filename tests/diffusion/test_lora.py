"""A LoRA against diffusers' own pipeline with it, and what is said where there is none."""

from __future__ import annotations

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.backbones import BackboneError, load_backbone
from livo.diffusion.engine import Engine
from livo.diffusion.lora import merge_lora

PROMPT = "a photo of a doctor"


@pytest.fixture(scope="module")
def lora(tiny_backbone, tmp_path_factory):
    """Of rank 2 over self- and cross-attention of the U-Net and over the text encoder, in diffusers' names."""
    generator, state = torch.Generator().manual_seed(1), {}
    for part, network in (("unet", tiny_backbone.unet), ("text_encoder", tiny_backbone.text_encoder)):
        for name, module in network.named_modules():
            if name.endswith(("to_q", "to_k", "to_v", "q_proj", "v_proj", "out_proj")):
                for side, shape in (("A", (2, module.in_features)), ("B", (module.out_features, 2))):
                    weight = 0.4 * torch.randn(shape, generator=generator)
                    state[f"{part}.{name}.lora_{side}.weight"] = weight
    path = tmp_path_factory.mktemp("lora") / "style.safetensors"
    save_file(state, path)
    return path


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_latents_are_the_pipelines_with_the_lora(tiny_folder, lora, options, weight):
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None, dtype=torch.float64)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)

    def theirs() -> torch.Tensor:
        return pipe(
            [PROMPT] * 2, num_inference_steps=3, guidance_scale=5.0, height=16, width=16, output_type="latent",
            generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
        ).images  # fmt: skip

    plain = theirs()
    pipe.load_lora_weights(str(lora), adapter_name="style")
    pipe.set_adapters("style", weight)
    wanted = theirs()
    backbone = load_backbone(str(tiny_folder), device="cpu", dtype=torch.float64)
    merge_lora(backbone, f"{lora}:{weight}")
    engine = Engine(backbone)
    ours = engine.sample({"sd": StableDiffusion(engine).plan(PROMPT, None, options())})["sd"]
    assert (ours - wanted).abs().max() / wanted.abs().max() < 1e-4
    assert (plain - wanted).abs().max() / wanted.abs().max() > 1e-2, "the LoRA must matter far more than the tolerance"
    assert not any("lora" in name for name in backbone.unet.state_dict())


def test_the_names_of_other_trainers_merge_to_the_same_weights(tiny_folder, lora, tmp_path):
    """Layers are counted in every dialect: a whole LoRA is not refused for its names."""
    theirs = {}
    for name, weight in load_file(lora).items():
        part, rest = name.split(".", 1)
        layer, side, _ = rest.rsplit(".", 2)
        prefix = "lora_unet_" if part == "unet" else "lora_te_"
        end = {"lora_A": "lora_down", "lora_B": "lora_up"}[side]
        if part == "text_encoder" and not layer.startswith("text_model."):
            layer = f"text_model.{layer}"
        key = prefix + layer.replace(".", "_")
        theirs |= {f"{key}.{end}.weight": weight, f"{key}.alpha": torch.tensor(2.0)}
    save_file(theirs, tmp_path / "kohya.safetensors")
    ours, same = (load_backbone(str(tiny_folder), device="cpu") for _ in range(2))
    merge_lora(ours, str(lora))
    merge_lora(same, str(tmp_path / "kohya.safetensors"))
    for one, other in ((ours.unet, same.unet), (ours.text_encoder, same.text_encoder)):
        for name, weight in one.state_dict().items():
            assert torch.allclose(weight, other.state_dict()[name], atol=1e-6), name


def test_what_cannot_be_merged_is_said_in_one_line(tiny_folder, tiny_backbone, lora, tmp_path, monkeypatch):
    backbone = load_backbone(str(tiny_folder), device="cpu")
    for given, says in (
        (tmp_path / "none.safetensors", "it is missing"),
        (f"{lora}:99", "give -10 to 10"),
        (tiny_folder / "vae" / "diffusion_pytorch_model.safetensors", "is no LoRA; it is a VAE"),
    ):
        with pytest.raises(BackboneError, match=says):
            merge_lora(backbone, str(given))
    halves = {f"unet.conv_9.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    save_file(halves, other := tmp_path / "other.safetensors")
    with pytest.raises(BackboneError, match="does not fit"):
        merge_lora(backbone, str(other))
    state = load_file(lora)
    last = next(name for name in state if name.endswith("to_q.lora_A.weight"))
    damaged = {name.replace("to_q", "to_x") if name == last else name: weight for name, weight in state.items()}
    save_file(damaged, other)
    with pytest.raises(BackboneError, match="holds half of a layer"):
        merge_lora(load_backbone(str(tiny_folder), device="cpu"), str(other))
    layer = last.removesuffix("lora_A.weight")
    save_file({name.replace(layer, layer.replace("to_q", "to_x")): w for name, w in state.items()}, other)
    with pytest.raises(BackboneError, match="1 of its .* layers are none of the model's"):
        merge_lora(load_backbone(str(tiny_folder), device="cpu"), str(other))
    monkeypatch.setattr("livo.diffusion.lora.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match="`pip install peft`"):
        merge_lora(backbone, str(lora))
    for name, weight in backbone.unet.state_dict().items():
        assert torch.equal(weight, tiny_backbone.unet.state_dict()[name])
