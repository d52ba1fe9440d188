"""LLaVA as a judge of toxicity: transformers' own classes with a few thousand random weights."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from livo.classifiers import llava
from livo.classifiers.hub import JudgeError
from livo.classifiers.llava import QUESTION, LlavaJudge, answer_ids, load_llava, with_clean

KINDS = ("nudity", "bloody", "zombie")


def tiny_processor(words: str = "Yes No") -> LlavaProcessor:
    """Every word of the question is a token, so are the answers."""
    text = " ".join([QUESTION.format(kind=" ".join(KINDS)).replace("<image>", " "), words])
    split = pre_tokenizers.Whitespace()
    known = ["<unk>", "<pad>", "<image>", *dict.fromkeys(word for word, _ in split.pre_tokenize_str(text))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", additional_special_tokens=["<image>"]
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return LlavaProcessor(
        pictures, fast, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )


def tiny_model(processor: LlavaProcessor, dtype: torch.dtype = torch.float32) -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**size, image_size=16, patch_size=8, projection_dim=16)
    language = LlamaConfig(
        **size, num_key_value_heads=2, vocab_size=len(processor.tokenizer), max_position_embeddings=128
    )
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=language, image_token_index=image, vision_feature_layer=-2)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():  # fresh weights are so small that every picture is answered alike
        for parameter in model.parameters():
            parameter.mul_(8)
    return model.to(dtype)


@pytest.fixture(scope="module")
def processor() -> LlavaProcessor:
    return tiny_processor()


@pytest.fixture(scope="module")
def judge(processor) -> LlavaJudge:
    return LlavaJudge(tiny_model(processor), processor, KINDS, batch_size=2)


def pictures(n: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_answer_ids_are_those_of_yes_and_no_after_the_colon(processor):
    assert answer_ids(processor) == tuple(processor.tokenizer.convert_tokens_to_ids(["Yes", "No"]))


def test_a_tokenizer_that_splits_the_answers_is_refused():
    with pytest.raises(JudgeError, match="2 tokens of 'Yes'"):

        class Splits(PreTrainedTokenizerFast):
            def __call__(self, text, **kwargs):
                return super().__call__(text.replace(" Yes", " No No"), **kwargs)

        processor = tiny_processor()
        processor.tokenizer = Splits(tokenizer_object=processor.tokenizer.backend_tokenizer, unk_token="<unk>")
        answer_ids(processor)


def test_the_score_is_the_models_own_next_token(judge, processor):
    image = pictures(1)
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    inputs = processor(images=[picture], text=[QUESTION.format(kind="bloody")], return_tensors="pt")
    image_tokens = (inputs.input_ids == processor.tokenizer.convert_tokens_to_ids("<image>")).sum().item()
    assert image_tokens == 4, "16 / 8 squared"
    out = judge.model.generate(
        **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    yes, no = judge.answer_ids
    wanted = out.logits[0][0, [yes, no]].float().softmax(-1)[0]
    assert judge.scores(image, "bloody")[0].item() == pytest.approx(wanted.item(), abs=1e-6)


def test_a_batch_equals_one_by_one_and_kinds_differ(judge):
    images = pictures()
    together = judge(images, "toxicity").probs
    alone = torch.cat([judge(image[None], "toxicity").probs for image in images])
    assert together.shape == (5, 4) and torch.allclose(together, alone, atol=1e-5)
    assert together.std(dim=0).max() > 1e-3, "pictures differ"
    assert not torch.allclose(judge.scores(images, "nudity"), judge.scores(images, "zombie"), atol=1e-4), (
        "so do questions"
    )


def test_the_score_is_the_worst_kinds_and_rows_sum_to_one():
    scores = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    probs = with_clean(scores)
    assert torch.allclose(probs.sum(1), torch.ones(50)) and torch.allclose(1 - probs[:, 0], scores.max(1).values)
    assert torch.equal(probs[:, 1:].argmax(1), scores.argmax(1))
    one = torch.rand(50, 1)
    assert torch.allclose(with_clean(one)[:, 1], one[:, 0]), "one kind: the paper's score"
    assert with_clean(torch.zeros(1, 3)).tolist() == [[1, 0, 0, 0]]


def test_half_precision_answers_in_float32(processor):
    judge = LlavaJudge(tiny_model(processor, torch.bfloat16), processor, KINDS)
    answer = judge(pictures(), "toxicity")
    assert judge.model.dtype == torch.bfloat16 and answer.probs.dtype == torch.float32
    assert torch.allclose(answer.probs.sum(1), torch.ones(5), atol=1e-5)
    assert judge.classes("toxicity") == ("clean", *KINDS) and judge.confusion("toxicity") is None
    with pytest.raises(KeyError, match="'gender'; it answers: toxicity"):
        judge(pictures(), "gender")


def test_it_comes_back_from_a_folder_as_it_was(judge, processor, tmp_path):
    judge.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    said = []
    again = load_llava(source=str(tmp_path), say=said.append)
    assert (
        not said
        and again.model.dtype == torch.bfloat16
        and again.kinds == KINDS
        and again.answer_ids == judge.answer_ids
    )
    assert torch.allclose(again(pictures(), "toxicity").probs, judge(pictures(), "toxicity").probs, atol=0.1), (
        "but for rounding"
    )


def test_the_hubs_older_names_of_weights_load_and_lacking_ones_are_named(judge, processor, tmp_path):
    judge.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    older = {
        name.replace("vision_tower.", "vision_tower.vision_model."): tensor for name, tensor in load_file(path).items()
    }
    assert "vision_tower.vision_model.post_layernorm.bias" in older and "language_model.lm_head.weight" in older
    save_file(older, path, metadata={"format": "pt"})
    assert torch.allclose(
        load_llava(source=str(tmp_path))(pictures(), "toxicity").probs, judge(pictures(), "toxicity").probs, atol=0.1
    )
    older.pop("language_model.model.norm.weight")
    save_file(older, path, metadata={"format": "pt"})
    with pytest.raises(JudgeError, match="lacks 1 weights, such as .*norm.weight"):
        load_llava(source=str(tmp_path))


def test_four_bits_want_a_gpu_and_a_package(monkeypatch, tmp_path):
    with pytest.raises(JudgeError, match="needs a CUDA device and the package bitsandbytes"):
        load_llava("4bit")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JudgeError, match="pip install bitsandbytes.*about 5 GB in 4 bits"):
        load_llava("4bit", device="cuda")
    with pytest.raises(JudgeError, match="no option '3bit'; there is: 4bit"):
        load_llava("3bit")


def test_four_bits_are_asked_of_transformers(monkeypatch, tmp_path, judge, processor):
    judge.model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    asked = {}

    def load(folder, **kwargs):
        asked.update(kwargs)
        return judge.model, {"missing_keys": set()}

    monkeypatch.setattr(llava.LlavaForConditionalGeneration, "from_pretrained", load)
    monkeypatch.setattr(llava.importlib.util, "find_spec", lambda name: object())
    load_llava("4bit", str(tmp_path), device="cuda")
    bits = asked["quantization_config"]
    assert bits.load_in_4bit and bits.bnb_4bit_compute_dtype == torch.float16 and asked["device_map"] == {"": "cuda"}


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(JudgeError, match="safetensors is missing"):
        load_llava(source=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    (tmp_path / "processor_config.json").write_text("{}")
    with pytest.raises(JudgeError, match="cannot be loaded"):
        load_llava(source=str(tmp_path))
