"""The detached token 0 against diffusers' CustomDiffusionAttnProcessor, the cross-attention that the release trains."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.attention_processor import CustomDiffusionAttnProcessor

from livo.methods.edited_weights import projection_weights
from train.concept_ablation import ablation_loss
from train.edits.training import bos_detached, student_of


@pytest.fixture
def batch(tiny_backbone64):
    """Noisy latents, timesteps, target and anchor contexts of two pictures; float64, where 1e-7 is no rounding."""
    like = {"generator": torch.Generator().manual_seed(1), "dtype": torch.float64}
    contexts = torch.randn(2, 2, 77, 32, **like)
    return torch.randn(2, 4, 8, 8, **like), torch.tensor([700, 90]), *contexts


def prediction_and_gradients(unet, batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    noisy, t, target, anchor = batch
    unet.zero_grad(set_to_none=True)
    with torch.no_grad():
        wanted = unet(noisy, t, anchor).sample
    prediction = unet(noisy, t, target).sample
    ablation_loss(prediction, wanted).backward()
    return prediction.detach(), {name: weight.grad.clone() for name, weight in projection_weights(unet).items()}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


def test_predictions_and_gradients_are_those_of_the_release(tiny_backbone64, batch):
    student, _ = student_of(tiny_backbone64.unet)
    theirs = copy.deepcopy(student)
    own = {name: CustomDiffusionAttnProcessor(train_kv=False, train_q_out=False) for name in theirs.attn_processors}
    theirs.set_attn_processor(own)
    expected, expected_gradients = prediction_and_gradients(theirs, batch)
    with bos_detached(student):
        ours, gradients = prediction_and_gradients(student, batch)
    assert (ours - expected).abs().max() < 1e-5
    assert distance(gradients, expected_gradients) < 1e-7

    # The comparison can fail: with the gradient of token 0 it does, while the predictions stay.
    plain, plain_gradients = prediction_and_gradients(student, batch)
    assert torch.equal(plain, ours)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    assert distance(plain_gradients, expected_gradients) > 0.01 * largest


def test_it_ends_with_the_block_and_reaches_cross_attention_alone(tiny_backbone64, batch):
    student, _ = student_of(tiny_backbone64.unet, "full-weight")
    with bos_detached(student):
        hooked = {name for name, module in student.named_modules() if module._forward_hooks}
    assert hooked == {name.removesuffix(".weight") for name in projection_weights(student)}
    assert not any(module._forward_hooks for module in student.modules())
