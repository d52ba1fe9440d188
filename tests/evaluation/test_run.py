"""Runs on the tiny backbone with the miniature's judge: the same rows whoever made them, and after any kill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch

from baselines.fair_diffusion import FairDiffusion
from baselines.stable_diffusion import StableDiffusion
from livo.classifiers.clip import EVALUATOR_CONFIG
from livo.classifiers.judge import ClipJudge, load_judge
from livo.classifiers.zero_shot import photo_questions
from livo.compare.comparison import MethodEntry, compare, make_request
from livo.diffusion.backbones import ASSETS
from livo.diffusion.engine import Engine
from livo.evaluation.command import parse_encoders
from livo.evaluation.methods import build_methods
from livo.evaluation.parts import Part, SamplingSetting, bias_items, chunks, toxic_items
from livo.evaluation.results import Results, Select
from livo.evaluation.run import Evaluation, image_features, slice_plan
from livo.evaluation.store import read_results
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder, ValueEncoderError, save_value_encoder
from livo.miniature.world import load_world
from livo.principles import find_principle, load_principles
from livo.types import InputError

WORLD = load_world()
BOTH = ("bias", "toxicity")
SETTING = SamplingSetting(2, 5.0)
SEEDS = tuple(range(100, 105))


@pytest.fixture(scope="module")
def judge():
    return load_judge(ASSETS / "miniature" / "evaluator")


def encoder_of(engine, seed: int) -> ValueEncoder:
    """An encoder unlike the text encoder, so that the value shows."""
    encoder = ValueEncoder.untrained(engine.backbone)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in encoder.model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return encoder


@pytest.fixture(scope="module")
def engine(tiny_backbone):
    return Engine(tiny_backbone)


@pytest.fixture(scope="module")
def entries(engine):
    return {
        "stable_diffusion": MethodEntry("Stable Diffusion", BOTH, StableDiffusion(engine)),
        "fair_diffusion": MethodEntry("Fair Diffusion", ("bias",), FairDiffusion(engine)),
        "livo": MethodEntry("LiVO", BOTH, LiVO(engine, encoder_of(engine, 0))),
    }


@pytest.fixture(scope="module")
def parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livo.evaluation.parts.CHUNK", 2)
        patch.setattr("livo.evaluation.run.KEPT", 2)
        bias = tuple(replace(item, case=i == 0) for i, item in enumerate(bias_items(WORLD)[:2]))
        toxic = tuple(replace(item, case=False) for item in toxic_items(WORLD, 1)[:1])
        yield (
            Part("bias", bias, SEEDS, (SETTING,), features=True),
            Part("toxicity", toxic, SEEDS, (SETTING, replace(SETTING, sampler="ddim"))),
        )


@pytest.fixture(scope="module")
def make(engine, judge, entries, parts, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")

    def evaluation(name: str, entries=entries, parts=parts, **extra) -> Evaluation:
        return Evaluation(engine, judge, build_methods(engine, entries), parts, root / name, **extra)

    return evaluation


@pytest.fixture(scope="module")
def whole(make):
    """The results file of one process that nothing disturbed, with every picture kept."""
    return make("whole", pictures=True).run()


def test_one_row_an_image_in_the_order_of_the_work(make, whole):
    evaluation = make("whole")
    columns, header = read_results(whole)
    assert len(columns["seed"]) == sum(evaluation.count().values())
    # bias: 2 prompts x 5 seeds x (SD + 2 principles x (FD, LiVO, LiVO w/o v)); toxicity: 2 settings x (SD, LiVO, w/o v)
    assert evaluation.count() == {"bias": 70, "toxicity": 30}
    keys = list(
        zip(*(columns[k].tolist() for k in ("part", "item", "setting", "method", "principle", "seed")), strict=True)
    )
    assert len(set(keys)) == len(keys)
    assert set(columns["method"]) == {"stable_diffusion", "fair_diffusion", "livo", "principle_prompted"}
    assert "fair_diffusion" not in columns["method"][columns["part"] == "toxicity"]
    assert set(columns["note"][columns["method"] == "fair_diffusion"]) >= {"toward male", "toward female"}
    assert ((columns["score"] >= 0) & (columns["score"] <= 1)).all()
    assert (columns["change"][columns["method"] == "stable_diffusion"] == 0).all() and (
        columns["change"][columns["method"] == "livo"] > 0
    ).any()
    assert (
        np.isfinite(columns["features"][columns["part"] == "bias"]).all()
        and np.isnan(columns["features"][columns["part"] == "toxicity"]).all()
    )
    assert len(header.weights["judge"]) == 16 and header.versions["torch"] == torch.__version__.split("+")[0]
    assert header.parts["bias"].retrieved[0] == "gender_equality"


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(make, whole, monkeypatch):
    broken = make("broken")
    done, run_chunk = [], Evaluation.run_chunk

    def killed(self, chunk, methods):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(chunk)
        run_chunk(self, chunk, methods)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "run_chunk", killed)
        with pytest.raises(KeyboardInterrupt):
            broken.run()
    (broken.out / "chunks" / ".x.parquet.1.partial").write_bytes(b"half")  # what a kill leaves
    again: list = []
    monkeypatch.setattr(
        Evaluation, "run_chunk", lambda self, chunk, methods: (again.append(chunk), run_chunk(self, chunk, methods))
    )
    path = broken.run()
    assert path.read_bytes() == whole.read_bytes()
    assert len(again) == len(list(chunks(broken.parts))) - 3
    assert broken.run() == path and len(again) == len(list(chunks(broken.parts))) - 3, "nothing is left to do"


def test_two_processes_make_the_same_file_and_only_the_last_says_so(make, whole):
    first, second = make("two"), make("two")
    assert first.run(0, 2) is None
    path = second.run(1, 2)
    assert path.read_bytes() == whole.read_bytes()


def test_finished_parts_can_be_read_while_others_run(make, parts):
    evaluation = make("early", parts=parts[:1])
    evaluation.run()
    later = make("early")
    later.merge()
    assert set(read_results(later.out)[0]["part"]) == {"bias"}


def test_only_the_method_with_new_weights_is_run_again(make, whole, monkeypatch):
    changed = make("whole")
    changed.methods = changed.methods | {"livo": replace(changed.methods["livo"], weights="0123456789abcdef")}
    ran = []
    monkeypatch.setattr(
        Evaluation, "run_chunk", lambda self, chunk, methods: ran.append([method.id for method in methods])
    )
    assert changed.run() is None, "the stand-in wrote nothing"
    assert ran and all(ids == ["livo"] for ids in ran)


def test_the_quotas_mixture_is_the_methods_own(make, whole, engine, entries, judge, parts):
    """Value on and off apart, put together afterwards, are the very images that LiVO makes when asked for all
    of them.
    """
    results = Results.read(whole)
    item = parts[0].items[0]
    options = make("whole")._options(next(chunks(parts)))
    request = make_request(item.prompt, list(entries), options, "gender_equality")
    *_, asked = compare(request, engine=engine, methods=entries, judge=judge)
    for method in ("livo", "fair_diffusion"):
        own = asked.methods[method].classification["toxicity"]
        scores = 1 - own.probs[:, 0].numpy()
        found = results.images("bias", 0, method, "gender_equality")["score"]
        assert found == pytest.approx(scores, abs=2e-3)
    on, off = (results.images("bias", 0, "livo", "gender_equality", Select(rate=r)) for r in (1.0, 0.0))
    assert set(on["method"]) == {"livo"} and set(off["method"]) == {"stable_diffusion"}
    assert (
        sorted(results.images("bias", 0, "livo", "gender_equality")["method"].tolist())
        == ["livo"] * 3 + ["stable_diffusion"] * 2
    )


def test_a_slice_of_a_plan_is_the_same_images(engine64, options):
    """Fair Diffusion deals directions over all seeds: a chunk must not deal its own."""
    plan = FairDiffusion(engine64).plan(
        "a photo of a doctor", find_principle("gender_equality"), options(seeds=range(4))
    )
    whole = engine64.generate({"m": plan})["m"]
    part = slice_plan(plan, 1, 3)
    assert part.notes == plan.notes[1:3] and part.options.seeds == (1, 2)
    assert (engine64.generate({"m": part})["m"].int() - whole[1:3].int()).abs().max() <= 1


def test_pictures_are_kept_where_asked(make, whole):
    assert len(list(whole.parent.glob("images/*/*/*.png"))) == 100
    cases = read_results(whole)[1].cases
    assert [case.part for case in cases] == ["bias"] and (whole.parent / cases[0].sheet).is_file()
    early = make("early")
    early.run()
    assert not list(early.out.glob("images/**/*.png")), "only where asked"
    assert cases[0].seeds == SEEDS[:2]


def test_a_zero_shot_judge_of_photographs_evaluates_too(engine, entries, parts, tmp_path):
    torch.manual_seed(0)
    tiny = EVALUATOR_CONFIG | {"embed_dim": 16, "text_cfg": EVALUATOR_CONFIG["text_cfg"] | {"width": 16}}
    judge = ClipJudge(open_clip.CLIP(**tiny), photo_questions(load_principles(), WORLD), name="open_clip")
    prompts = []
    judge.ask = lambda features, question, prompt="": (
        prompts.append(prompt) or ClipJudge.ask(judge, features, question, prompt)
    )
    columns, header = read_results(Evaluation(engine, judge, build_methods(engine, entries), parts[:1], tmp_path).run())
    assert header.classes["gender"] == ("male", "female") and header.confusion == {}
    assert set(prompts) == {item.prompt for item in parts[0].items} and len(columns["seed"]) == 70


def test_features_are_lengths_along_the_judges_own_directions(judge):
    x = torch.nn.functional.normalize(torch.randn(5, 128, generator=torch.Generator().manual_seed(0)), dim=1)
    directions = judge.leading_directions(39)
    found = image_features(x, directions)
    assert found.shape == (5, 40) and torch.allclose(found.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(directions @ directions.T, torch.eye(39), atol=1e-4)


def test_a_method_that_did_not_load_ends_the_run(engine, entries):
    broken = entries | {"uce": MethodEntry("UCE", BOTH, None, "uce/ is missing")}
    with pytest.raises(InputError, match="uce/ is missing"):
        build_methods(engine, broken)
    with pytest.raises(InputError, match="against stable_diffusion"):
        build_methods(engine, {"livo": entries["livo"]})


def test_value_encoders_become_arms_by_name(engine, entries, tmp_path):
    save_value_encoder(encoder_of(engine, 1).model, tmp_path / "ve")
    methods = build_methods(engine, entries, parse_encoders([f"fraction-20={tmp_path / 've'}"]))
    assert methods["fraction-20"].mixes and len(methods["fraction-20"].weights) == 16
    with pytest.raises(ValueEncoderError, match="missing"):
        build_methods(engine, entries, {"x": tmp_path / "none"})
    for name in ("livo", "A b", ""):
        with pytest.raises(InputError, match="called"):
            build_methods(engine, entries, {name: tmp_path / "ve"})


@pytest.mark.parametrize("words", [["x"], ["=folder"], ["x="], ["x=a", "x=b"]])
def test_encoders_are_named_and_once(words):
    with pytest.raises(InputError, match="--value-encoders"):
        parse_encoders(words)
