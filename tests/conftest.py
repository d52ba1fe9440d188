"""A complete latent diffusion model of 0.1M random parameters, real classes throughout, for every test."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches the network; read when huggingface_hub is imported
torch.set_num_threads(1)  # tiny tensors: a second thread only adds noise


def tiny_tokenizer():
    """A CLIPTokenizer without merges: one token a byte, 514 entries, so that it needs no download."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(c + "</w>" for c in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=77)


def build_tiny_folder(folder: Path) -> Path:
    """Writes the model to `folder` in diffusers format; the same bytes every time."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=77, bos_token_id=512, eos_token_id=2, pad_token_id=513,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32, norm_num_groups=8,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    with torch.no_grad():  # fresh attention hardly listens to the text; here a changed text must show
        for name, parameter in unet.named_parameters():
            if ".attn2." in name:
                parameter.mul_(3)
    vae = AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=4, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1,
        timestep_spacing="linspace",
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tiny_tokenizer(), unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """A command that a test ran may have set another number."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only by agreement: copy it before breaking it."""
    return build_tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_backbone(tiny_folder: Path):
    """In float32, as users run it."""
    from livo.diffusion.backbones import load_backbone

    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture(scope="session")
def tiny_backbone64(tiny_folder: Path):
    """In float64, where equal arithmetic is equal to 1e-10 whatever the batch size."""
    from livo.diffusion.backbones import load_backbone

    return load_backbone(str(tiny_folder), device="cpu", dtype=torch.float64)


@pytest.fixture
def engine(tiny_backbone):
    from livo.diffusion.engine import Engine

    return Engine(tiny_backbone)


@pytest.fixture
def engine64(tiny_backbone64):
    from livo.diffusion.engine import Engine

    return Engine(tiny_backbone64)


@pytest.fixture
def options() -> Callable:
    """`options(seeds=..., ...)`: sampling options of three steps at 16 x 16."""
    from livo.types import SamplingOptions

    def make(
        seeds=(0, 1), num_inference_steps: int = 3, guidance_scale: float = 5.0, height: int = 16, width: int = 16
    ) -> SamplingOptions:
        return SamplingOptions(tuple(seeds), num_inference_steps, guidance_scale, height, width)

    return make


@pytest.fixture
def count_rows():
    """`rows = count_rows(unet)`: a list that grows by the batch size of every call of that U-Net."""
    handles = []

    def watch(unet) -> list[int]:
        rows: list[int] = []
        handles.append(unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0]))))
        return rows

    yield watch
    for handle in handles:
        handle.remove()


@pytest.fixture
def value(engine64):
    return torch.randn(32, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.fixture
def everything(engine64, options, value):
    """Plans of every kind: plain, 78 tokens, edited K and V, another U-Net."""
    from plans import PROMPT, edited_weights, text_plan

    engine64.add_projection("edit", edited_weights(engine64.backbone.unet))
    own = copy.deepcopy(engine64.backbone.unet)
    with torch.no_grad():
        own.conv_in.weight.mul_(1.3)
    engine64.add_unet("own", own)
    ask = options(seeds=(3, 1, 2))
    return {
        "sd": text_plan(engine64, PROMPT, ask),
        "value": text_plan(engine64, PROMPT, ask, value=value),
        "edit": text_plan(engine64, PROMPT, ask, projection="edit"),
        "own": text_plan(engine64, PROMPT, ask, unet_override="own"),
    }
