"""Stable Diffusion's safety checker as a judge: diffusers' own class at tiny size, and its own verdicts."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPVisionConfig

from livo.classifiers.hub import JudgeError
from livo.classifiers.safety_checker import SafetyCheckerJudge, load_safety_checker


def tiny_checker(level: float, dtype: torch.dtype = torch.float32) -> StableDiffusionSafetyChecker:
    """Concepts all around, with thresholds at which some pictures pass."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=8
    )
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    )
    with torch.no_grad():
        for parameter in checker.vision_model.parameters():
            parameter.mul_(6)
        checker.concept_embeds.normal_()
        checker.special_care_embeds.normal_()
        checker.concept_embeds_weights.fill_(level)
        checker.special_care_embeds_weights.fill_(level - 0.1)
    return checker.to(dtype)


@pytest.fixture(scope="module")
def processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def pictures(n: int = 40) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    plain = torch.randint(0, 256, (n, 3, 1, 1), dtype=torch.uint8, generator=random).expand(n, 3, 20, 20)
    return (plain // 2 + torch.randint(0, 128, (n, 3, 20, 20), dtype=torch.uint8, generator=random)).to(torch.uint8)


def threshold_where_half_pass(processor) -> float:
    judge = SafetyCheckerJudge(tiny_checker(0.0), processor)
    return judge.margins(pictures()).median().item()


def test_above_one_half_is_exactly_the_checkers_own_verdict(processor):
    for level in (threshold_where_half_pass(processor), 0.0, 1.5):
        checker = tiny_checker(level)
        judge = SafetyCheckerJudge(checker, processor, batch_size=7)
        images = pictures()
        _, flagged = checker(judge.prepare(images), [torch.zeros(1)] * len(images))
        answer = judge(images, "toxicity")
        assert (answer.probs[:, 1] > 0.5).tolist() == [bool(x) for x in flagged], level
        assert torch.allclose(answer.probs.sum(1), torch.ones(len(images)))
    assert not any(flagged), "no cosine reaches 1.5"


def test_the_planted_level_divides_the_pictures(processor):
    judge = SafetyCheckerJudge(tiny_checker(threshold_where_half_pass(processor)), processor)
    toxic = (judge(pictures(), "toxicity").probs[:, 1] > 0.5).float().mean()
    assert 0.1 < toxic < 0.9


def test_a_batch_equals_one_by_one(processor):
    judge = SafetyCheckerJudge(tiny_checker(0.3), processor, batch_size=3)
    images = pictures(7)
    alone = torch.cat([judge(image[None], "toxicity").probs for image in images])
    assert torch.allclose(judge(images, "toxicity").probs, alone, atol=0.06), (
        "the margin is rounded to 0.001, a tenth of the scale"
    )


def test_half_precision(processor):
    judge = SafetyCheckerJudge(tiny_checker(0.3, torch.bfloat16), processor)
    answer = judge(pictures(3), "toxicity")
    assert (
        judge.checker.dtype == torch.bfloat16 and answer.probs.dtype == torch.float32 and answer.probs.shape == (3, 2)
    )


def test_the_hubs_older_names_of_weights_load_and_lacking_ones_are_named(processor, tmp_path):
    tiny_checker(0.3).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    older = {
        name.replace("vision_model.", "vision_model.vision_model."): tensor for name, tensor in load_file(path).items()
    }
    save_file(older, path, metadata={"format": "pt"})
    judge, images = load_safety_checker(source=str(tmp_path)), pictures(3)
    assert torch.equal(judge.margins(images), SafetyCheckerJudge(tiny_checker(0.3), processor).margins(images))
    older.pop("visual_projection.weight")
    save_file(older, path, metadata={"format": "pt"})
    with pytest.raises(JudgeError, match="lacks 1 weights, such as visual_projection.weight"):
        load_safety_checker(source=str(tmp_path))


def test_it_knows_nudity_alone(processor):
    judge = SafetyCheckerJudge(tiny_checker(0.3), processor)
    assert judge.classes("toxicity") == ("clean", "nudity") and judge.confusion("toxicity") is None
    with pytest.raises(KeyError, match="'gender'; it answers: toxicity"):
        judge(pictures(1), "gender")


def test_it_comes_from_its_own_folder_or_from_a_backbones(processor, tmp_path):
    own, backbone = tmp_path / "checker", tmp_path / "sd"
    tiny_checker(0.3).save_pretrained(own)
    processor.save_pretrained(own)
    tiny_checker(0.3).save_pretrained(backbone / "safety_checker")
    processor.save_pretrained(backbone / "feature_extractor")
    one, other = load_safety_checker(source=str(own)), load_safety_checker(source=str(backbone))
    images = pictures(4)
    assert torch.equal(one(images, "toxicity").probs, other(images, "toxicity").probs)
    assert torch.equal(
        one(images, "toxicity").probs, SafetyCheckerJudge(tiny_checker(0.3), processor)(images, "toxicity").probs
    )
    (own / "preprocessor_config.json").unlink()
    with pytest.raises(JudgeError, match="preprocessor_config.json is missing"):
        load_safety_checker(source=str(own))
    with pytest.raises(JudgeError, match="has no options; 'fast'"):
        load_safety_checker("fast", str(own))
