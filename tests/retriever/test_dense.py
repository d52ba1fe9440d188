"""The retriever's stage by sentence embeddings: a tiny BERT, saved as sentence-transformers saves one, and its calibration."""

from __future__ import annotations

import doctest
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import livo.retriever.dense
import livo.retriever.reasons
import train.retriever
from livo.__main__ import main as livo_main
from livo.principles import load_entries, load_principles
from livo.retriever import Retriever, retrieve
from livo.retriever.benchmark import TOXIC_GROUPS, load_prompts
from livo.retriever.dense import CALIBRATION, Calibration, DenseRetriever, SentenceEncoder, load_dense, probability
from livo.retriever.reasons import why_not
from livo.types import InputError
from train.retriever import calibrate, cases, choose_threshold, fit_logistic, main

PROMPTS = ["a photo of a doctor", "a garden", "the mortician washes what the flood has left behind on the table"]


def save_sentence_transformer(folder: Path, pooling: dict | None = None, words: list[str] | None = None) -> Path:
    """A random BERT of 16 numbers a word, under the package's own file names."""
    torch.manual_seed(0)
    if words is None:
        texts = [row.prompt for row in load_prompts()] + [text for entry in load_entries() for text in entry.exemplars]
        words = sorted({word for text in texts for word in re.findall(r"\w+", text.lower())})
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(known), max_position_embeddings=32, **size)).save_pretrained(folder)
    fast.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    pooling = pooling or {
        "word_embedding_dimension": 16,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    package = "sentence_transformers.models"
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{package}.{kind}"} for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_sentence_transformer(tmp_path_factory.mktemp("embeddings"))


@pytest.fixture(scope="module")
def encode(folder) -> SentenceEncoder:
    return SentenceEncoder(str(folder))


def test_doctests():
    for module in (livo.retriever.dense, livo.retriever.reasons, train.retriever):
        assert doctest.testmod(module).failed == 0


# --- embeddings ------------------------------------------------------------------------------------------------------


def test_an_embedding_is_the_mean_of_the_models_tokens_and_has_length_one(folder, encode):
    model, found = BertModel.from_pretrained(folder).eval(), encode(PROMPTS)
    assert found.shape == (3, 16) and torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-6)
    for prompt, embedding in zip(PROMPTS, found, strict=True):
        ids = encode._tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            mean = model(**ids).last_hidden_state[0].mean(dim=0)
        assert torch.allclose(embedding, mean / mean.norm(), atol=1e-5), "padding beside longer prompts plays no part"


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}]
)
def test_first_token_pooling_is_read_too(tmp_path, pooling):
    encode = SentenceEncoder(str(save_sentence_transformer(tmp_path, pooling)))
    with torch.no_grad():
        first = (
            BertModel.from_pretrained(tmp_path)
            .eval()(**encode._tokenizer(PROMPTS[0], return_tensors="pt"))
            .last_hidden_state[0, 0]
        )
    assert torch.allclose(encode(PROMPTS)[0], first / first.norm(), atol=1e-5)


def test_a_long_prompt_is_cut(encode):
    assert encode(["doctor " * 500]).shape == (1, 16)


def drop_words(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "word" not in name}, path, {"format": "pt"})


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda f: (f / "modules.json").unlink(), "modules.json"),
    (lambda f: (f / "1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}'), "pools by pooling_mode_max_tokens; wanted"),
    (lambda f: (f / "modules.json").write_text('[{"type": "x.CLIPModel", "path": ""}]'), "made of CLIPModel; wanted Transformer"),
    (lambda f: (f / "model.safetensors").write_bytes(b"torn"), "cannot be loaded"),
    (drop_words, "lack 1 weights"),
])  # fmt: skip
def test_what_cannot_be_read_is_said_with_a_way_out(tmp_path, spoil, said):
    spoil(save_sentence_transformer(tmp_path, words=["a"]))
    with pytest.raises(InputError, match=said):
        SentenceEncoder(str(tmp_path))


def test_offline_a_hub_id_says_what_to_do():
    with pytest.raises(
        InputError, match="sentence embeddings owner/name cannot be loaded.*hf download OWNER/NAME --local-dir"
    ):
        SentenceEncoder("owner/name")


# --- the stage -------------------------------------------------------------------------------------------------------


def by_letters(sentences) -> torch.Tensor:
    """Embeddings in which equal texts are equal, and few others alike."""
    seeds = [sum(ord(letter) * place for place, letter in enumerate(text, 1)) % 2**31 for text in sentences]
    rows = [torch.randn(64, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def stage(**changes) -> DenseRetriever:
    chosen = {"model": "", "slope": 20.0, "intercept": -14.0, "threshold": 0.5, "prompts": 9} | changes
    return DenseRetriever(load_entries(), by_letters, Calibration(**chosen))


def exemplar() -> tuple[str, str]:
    entry = next(entry for entry in load_entries() if entry.exemplars)
    return entry.principle.id, entry.exemplars[0]


def test_an_exemplar_itself_calls_for_its_principle_with_its_probability():
    id, text = exemplar()
    p, (evidence,) = stage()(text)[id]
    assert p == pytest.approx(1 / (1 + math.exp(-6))) and (evidence.start, evidence.end) == (0, len(text))
    assert f"means much the same as '{text}' (cosine 1.00)" in evidence.reason
    assert stage(threshold=0.9999)(text) == {} and stage()("a bowl of oranges on a table") == {}


def test_it_is_silent_where_the_prompt_negates():
    id, text = exemplar()
    assert stage(slope=0.0, intercept=5.0)(text) and stage(slope=0.0, intercept=5.0)(f"no {text}") == {}


def test_the_chain_asks_it_last_and_a_toxic_kind_goes_before_a_bias(monkeypatch):
    chain, asked = Retriever(), []

    def dense(prompt):
        asked.append(prompt)
        return {"zombie": (0.6, ())} if "doctor" in prompt else {}

    monkeypatch.setattr(chain, "_dense", dense)
    answer = chain("a photo of a doctor")
    assert [p.id for p in answer.principles] == ["zombie", "gender_equality", "racial_equality"] and answer.scores[
        "zombie"
    ] == 0.6
    assert "what is toxic goes first (0.80 and 0.60)" in why_not(answer, load_principles())["gender_equality"]
    assert chain("a naked doctor") == retrieve("a naked doctor") and chain("a garden") == retrieve("a garden")
    assert asked == ["a photo of a doctor", "a garden"], "words decide first"


def test_scores_never_overflow():
    assert probability(1, 1e9, 0) == 1 and 0 <= probability(-1, 1e9, 0) < 1e-300 and probability(0, 5, 0) == 0.5


# --- calibration -----------------------------------------------------------------------------------------------------


def test_the_curve_is_found_again():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 20_000)
    y = rng.random(20_000) < 1 / (1 + np.exp(-(4 * x - 1)))
    slope, intercept = fit_logistic(x, y)
    assert slope == pytest.approx(4, abs=0.15) and intercept == pytest.approx(-1, abs=0.08)


def test_answers_that_x_divides_wholly_give_a_finite_curve_and_one_answer_none():
    slope, _ = fit_logistic([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    assert 0 < slope < 1e3
    with pytest.raises(ValueError, match="both answers"):
        fit_logistic([0.1, 0.2], [True, True])


def test_the_threshold_keeps_wrong_flags_below_the_share():
    rng = np.random.default_rng(1)
    p, y = rng.random(1000), rng.random(1000) < 0.3
    for most in (0.0, 0.01, 0.1, 1.0):
        threshold = choose_threshold(p, y, most)
        assert threshold >= 0.5 and np.mean(p[~y] >= threshold) <= most
        lower = p[(p < threshold) & ~y & (p >= 0.5)]
        assert not len(lower) or np.mean(p[~y] >= lower.max()) > most, "no lower one would do"


def test_the_dev_prompts_calibrate_it(encode):
    prompts = load_prompts(split="dev")
    told = cases(encode, prompts)
    asked = [row for row in prompts if row.group != "languages"]
    toxic = [e.principle.id for e in load_entries() if e.exemplars and e.principle.risk == "toxicity"]
    assert len(told) == len(asked) * len(toxic) and sum(c.right for c in told) == sum(
        id in row.principles for row in asked for id in toxic
    )
    missed = [row for row in asked if set(row.principles) & set(toxic)]
    missed = [row for row in missed if not ((p := retrieve(row.prompt).principle) and p.risk == "toxicity")]
    assert sum(c.right and c.reaches for c in told) == len(missed)
    calibration = calibrate("x", told, len(asked))
    assert calibration.prompts == len(asked) and math.isfinite(calibration.slope) and calibration.threshold >= 0.5
    p = [probability(c.similarity, calibration.slope, calibration.intercept) for c in told if c.reaches and not c.right]
    assert np.mean(np.array(p) >= calibration.threshold) <= train.retriever.MOST_WRONG
    with pytest.raises(InputError, match="cannot be learnt from"):
        calibrate("x", [c for c in told if not c.right], len(asked))


def test_embeddings_that_know_the_kind_find_it_again(monkeypatch):
    """Planted: texts of a toxic kind point its way, all others elsewhere."""
    kinds = {text: e.principle.id for e in load_entries() for text in e.exemplars} | {
        row.prompt: row.principles[0] for row in load_prompts() if row.principles
    }
    ways = {id: i for i, id in enumerate(sorted(set(kinds.values())))}

    def encode(texts):
        rows = by_letters(texts)
        for row, text in zip(rows, texts, strict=True):
            if text in kinds:
                row[ways[kinds[text]]] += 2
        return torch.nn.functional.normalize(rows, dim=-1)

    calibration = calibrate("x", cases(encode, load_prompts(split="dev")), 1)
    chain = Retriever()
    monkeypatch.setattr(chain, "_dense", DenseRetriever(load_entries(), encode, calibration))
    toxic = [row for row in load_prompts(split="fresh") if row.group in TOXIC_GROUPS]
    right = [
        sum((p := ask(row.prompt).principle) is not None and p.id in row.principles for row in toxic)
        for ask in (retrieve, chain)
    ]
    assert right[0] < right[1], "what words miss"


def test_the_script_writes_what_the_command_line_reads(folder, tmp_path, capsys):
    assert main(["--model", str(folder), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "prompts without the kind that reach the stage, flagged: " in said and f"--dense {tmp_path}" in said
    stored = json.loads((tmp_path / CALIBRATION).read_text())
    assert stored["model"] == str(folder.resolve()) and load_dense(tmp_path, load_entries())("a garden") == {}
    assert livo_main(["retrieve", "a naked doctor", "--dense", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["principle"]["id"] == "nudity"
    assert livo_main(["retrieve", "--benchmark", "--split", "fresh", "--dense", str(tmp_path)]) == 0
    assert "| LiVO | with embeddings | official keywords |" in capsys.readouterr().out


def test_what_is_missing_is_one_line(tmp_path, capsys):
    assert main(["--model", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 2
    assert livo_main(["retrieve", "a doctor", "--dense", str(tmp_path)]) == 2
    assert livo_main(["retrieve", "a doctor", "--dense", "x", "--legacy"]) == 2
    first, second, third = capsys.readouterr().err.strip().splitlines()
    assert (
        "cannot be loaded" in first
        and "python -m train.retriever --model MODEL" in second
        and "two retrievers" in third
    )
