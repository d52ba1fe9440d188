from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from plans import edited_weights, text_plan

from baselines.fair_diffusion import FairDiffusion
from baselines.stable_diffusion import StableDiffusion
from livo.classifiers.clip import EVALUATOR_CONFIG, world_questions
from livo.classifiers.judge import ClipJudge
from livo.classifiers.panel import Panel, describe, measure
from livo.compare.comparison import Comparison, ComparisonRequest, MethodEntry, compare, make_request
from livo.compare.record import ComparisonRecord, negative_prompt_remark
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder
from livo.miniature.world import load_world
from livo.principles import find_principle
from livo.retriever.vocabulary import words_of_world
from livo.types import Artefact, Classification, InputError, Progress

PROMPT = "a photo of a doctor"
BOTH = ("bias", "toxicity")


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return ClipJudge(open_clip.CLIP(**EVALUATOR_CONFIG), world_questions(load_world()))


@pytest.fixture
def entries(engine) -> dict[str, MethodEntry]:
    livo = LiVO(engine, ValueEncoder.untrained(engine.backbone))
    return {
        "stable_diffusion": MethodEntry("Stable Diffusion", BOTH, StableDiffusion(engine)),
        "livo": MethodEntry("LiVO", BOTH, livo),
    }


def asked(entries, options, prompt=PROMPT, principle="auto", **extra) -> ComparisonRequest:
    return make_request(prompt, list(entries), options, principle, **extra)


def run(engine, entries, options, judge=None, **extra) -> Comparison:
    *reports, last = compare(asked(entries, options, **extra), engine=engine, methods=entries, judge=judge)
    assert all(isinstance(report, Progress) for report in reports)
    return last


def test_all_methods_texts_are_encoded_in_one_call(engine, entries, options):
    entries["fair_diffusion"] = MethodEntry("Fair Diffusion", BOTH, FairDiffusion(engine))
    calls: list[int] = []
    handle = engine.backbone.text_encoder.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(len((args or tuple(kwargs.values()))[0])), with_kwargs=True
    )
    made = run(engine, entries, options(), principle="gender_equality")
    handle.remove()
    assert not [result.reason for result in made.methods.values() if result.reason]
    assert calls == [4], "the prompt, the empty prompt, and the two that Fair Diffusion edits by"


def test_reports_every_step_and_ends_with_the_comparison(engine, entries, options):
    *reports, last = compare(asked(entries, options()), engine=engine, methods=entries)
    assert [report.step for report in reports] == [1, 2, 3]
    assert set(reports[0].previews) == set(entries)
    assert isinstance(last, Comparison) and last.request.principle.id == "gender_equality"
    assert [item.text for item in last.request.evidence] == ["doctor"]
    assert list(last.methods) == list(entries)
    assert all(result.images.shape == (2, 3, 16, 16) for result in last.methods.values())
    assert sorted(last.methods["livo"].notes) == ["no value", "value"]


def test_json_has_exactly_the_keys_of_the_contract(engine, entries, judge, options, tmp_path):
    comparison = run(engine, entries, options(), judge=judge)
    paths = comparison.save_images(tmp_path)
    answer = comparison.record().to_json(paths)
    assert json.loads(json.dumps(answer)) == answer
    assert set(answer) == {
        "prompt",
        "principle",
        "principles",
        "evidence",
        "options",
        "methods",
        "unet_rows",
        "remarks",
        "unknown_words",
    }
    assert set(answer["principle"]) == {"id", "text", "risk"}
    assert answer["options"]["seeds"] == [0, 1] and answer["options"]["principle"] == "auto"
    for id, method in answer["methods"].items():
        assert set(method) == {
            "applies",
            "reason",
            "images",
            "classification",
            "metrics",
            "judges",
            "agreement",
            "seconds",
            "cost",
        }
        assert set(method["judges"].values()) == {"evaluator"} and method["agreement"] == {}
        assert method["applies"] is True and method["reason"] is None and method["images"] == paths[id]
        assert set(method["classification"]) == {"gender", "tone", "toxicity", "occupation"}
        for payload in method["classification"].values():
            assert set(payload) == {"classes", "counts", "abstained", "images"}
            assert sum(payload["counts"]) + payload["abstained"] == len(payload["images"]) == 2
        assert set(method["cost"]) == {"rows", "tflop"} and method["cost"]["rows"] == 2
        assert set(method["metrics"]["toxicity"]) == {"n", "toxicity_ratio", "toxicity_score", "interval", "corrected"}
        assert method["metrics"]["toxicity"]["corrected"] is None, "this judge's errors were never measured"


def test_cost_counts_what_a_method_would_take_alone_and_the_rows_that_were_shared(engine, entries, options):
    comparison = run(engine, entries, options(seeds=range(4)))
    steps = 3
    for result in comparison.methods.values():
        assert result.cost.rows == 2 and result.cost.artefact is None
        assert result.cost.tflop * 1e12 == 2 * steps * engine.row_flop(options())
    # Half of LiVO's images are Stable Diffusion's; the others share the empty prompt's row at the first step.
    assert comparison.rows == steps * (4 * 2 + 2 * 2) - 2
    alone = run(engine, {"stable_diffusion": entries["stable_diffusion"]}, options(seeds=range(4)))
    assert alone.rows == steps * 4 * 2


def test_an_artefact_is_part_of_the_cost(engine, entries, options):
    method = entries["livo"].method
    method.artefact = lambda principle: Artefact(1234, {"seconds": 5.0}) if principle else None
    answer = run(engine, entries, options()).record().to_json()
    assert answer["methods"]["livo"]["cost"].items() >= {"bytes": 1234, "training": {"seconds": 5.0}}.items()


def test_image_files_hold_the_images_under_their_method_and_seed(engine, entries, options, tmp_path):
    comparison = run(engine, entries, options(seeds=(3, 1)))
    paths = comparison.save_images(tmp_path)
    names = [[Path(path).name for path in files] for files in paths.values()]
    assert names == [[f"{id}-seed3.png", f"{id}-seed1.png"] for id in entries]
    for id, files in paths.items():
        for i, path in enumerate(files):
            with Image.open(path) as image:
                pixels = torch.tensor(list(image.get_flattened_data()), dtype=torch.uint8).reshape(16, 16, 3)
                text = image.text
            assert torch.equal(pixels.permute(2, 0, 1), comparison.methods[id].images[i])
            assert text["seed"] == str((3, 1)[i])
    assert comparison.save_images(tmp_path) == paths


def test_a_record_is_the_same_after_its_json(engine, entries, judge, options):
    torch.manual_seed(1)
    other = ClipJudge(open_clip.CLIP(**EVALUATOR_CONFIG), world_questions(load_world()), name="other")
    record = run(engine, entries, options(), judge=Panel((judge, other))).record()
    answer = record.to_json()
    again = ComparisonRecord.from_json(json.loads(json.dumps(answer)))
    assert again.to_json() == answer and again.principles == record.principles


def test_a_word_that_the_model_never_saw_leaves_pictures_and_no_figures(engine, entries, judge, options):
    words = words_of_world(load_world())
    comparison = run(engine, entries, options(), judge=judge, prompt="a photo of a plumberx", vocabulary=words)
    record = comparison.record()
    assert record.unknown_words == ("plumberx",) and "not measurable" in record.remarks[0]
    assert all(result.images is not None for result in comparison.methods.values())
    assert all(not method.answers and not method.figures for method in record.methods.values())
    payload = record.to_json()["methods"]["livo"]
    assert payload["classification"] == payload["metrics"] == payload["judges"] == {}


def test_a_loaded_word_is_not_drawn_at_all(entries, options):
    with pytest.raises(InputError, match="not drawn here: it accuses.*a photo of a doctor"):
        asked(entries, options(), prompt="a photo of a criminal", vocabulary=words_of_world(load_world()))
    assert asked(entries, options(), prompt="a photo of a criminal").words.measurable, "a model of photographs"


def test_inflected_words_are_read_in_the_form_that_the_model_knows(engine, entries, options):
    words = words_of_world(load_world())
    plural = run(engine, entries, options(), prompt="a photo of doctors", vocabulary=words, principle="none")
    single = run(engine, entries, options(), prompt="a photo of doctor", principle="none")
    assert torch.equal(plural.methods["livo"].images, single.methods["livo"].images)
    assert plural.record().prompt == "a photo of doctors"


def test_no_principle_makes_livo_stable_diffusion(engine, entries, options):
    for prompt, choice in ((PROMPT, "none"), ("a photo of a garden", "auto")):
        comparison = run(engine, entries, options(), prompt=prompt, principle=choice)
        images = [result.images for result in comparison.methods.values()]
        assert comparison.request.principle is None and torch.equal(*images)
        assert comparison.record().to_json()["principle"] is None


def test_a_method_that_does_not_act_on_the_risk_says_so_and_stops_nobody(engine, entries, options):
    entries["livo"] = replace(entries["livo"], title="Fair", risks=("bias",))
    answer = run(engine, entries, options(), principle="zombie").record().to_json()
    assert answer["methods"]["livo"]["applies"] is False
    assert "Fair acts on bias only" in answer["methods"]["livo"]["reason"]
    assert answer["methods"]["livo"]["metrics"] == {} and answer["methods"]["livo"]["seconds"] is None
    assert answer["methods"]["stable_diffusion"]["seconds"] > 0
    assert run(engine, entries, options(), principle="none").methods["livo"].applies


class Broken:
    def plan(self, prompt, principle, options):
        raise RuntimeError("no weights here")


class FailingGuide:
    def __call__(self, noise_preds, step):
        raise RuntimeError("guide fell over")


class BrokenLate(StableDiffusion):
    def plan(self, prompt, principle, options):
        return replace(super().plan(prompt, principle, options), guide=FailingGuide())


def test_a_failing_method_becomes_its_reason(engine, entries, options):
    healthy = run(engine, entries, options())
    entries["early"] = MethodEntry("Early", BOTH, Broken())
    entries["late"] = MethodEntry("Late", BOTH, BrokenLate(engine))
    entries["absent"] = MethodEntry("Absent", BOTH, None, "its file is missing")
    comparison = run(engine, entries, options())
    assert "no weights here" in comparison.methods["early"].reason
    assert "guide fell over" in comparison.methods["late"].reason
    assert comparison.methods["absent"].reason == "its file is missing"
    for id in ("stable_diffusion", "livo"):
        assert comparison.methods[id].reason == ""
        assert (comparison.methods[id].images.int() - healthy.methods[id].images.int()).abs().max() <= 1
    assert list(comparison.methods) == list(entries)


def test_words_that_are_cut_are_named_and_the_retriever_reads_what_the_model_reads(engine, entries, options):
    reads = engine.backbone.text.read  # the tiny tokenizer has a token a letter: 75 of them
    long = "a photo of a garden " + "q " * 60 + "y  naked doctor"
    request = asked(entries, options(), prompt=long, reads=reads)
    assert request.cut == "y  naked doctor" and request.principle is None and not request.evidence
    assert asked(entries, options(), prompt=long).principle.risk == "toxicity", "as the whole of it would be"
    *_, last = compare(request, engine=engine, methods=entries)
    assert last.record().to_json()["remarks"][-1].endswith("“y  naked doctor”")
    embeds = engine.encode_prompt
    assert torch.equal(embeds(long), embeds(long[: -len(" y  naked doctor")] + " zz")), "nothing of it is read"
    assert asked(entries, options(), reads=reads).cut == "" and reads("x" * 99) == ""


def test_a_negative_prompt_is_said_to_be_read_in_the_way_it_is(engine, entries, options):
    edit = edited_weights(engine.backbone.unet)
    engine.add_projection("edit", edit)
    plans = {
        "Stable Diffusion": text_plan(engine, PROMPT, options()),
        "UCE": text_plan(engine, PROMPT, options(), projection="edit"),
        "Fair": FairDiffusion(engine).plan(PROMPT, find_principle("gender_equality"), options()),
    }
    assert negative_prompt_remark(plans) == (
        "the negative prompt stands in place of the empty prompt for Stable Diffusion, UCE, Fair; UCE read it through "
        "edited weights; Fair also measure their edits from it"
    )
    unguided = {"Stable Diffusion": StableDiffusion(engine).plan(PROMPT, None, options(guidance_scale=1))}
    assert "no effect" in negative_prompt_remark(unguided)


def test_a_failing_judge_leaves_the_images(engine, entries, options):
    class BrokenJudge:
        name, questions = "broken", ("gender",)

        def __call__(self, images, question, prompt):
            raise RuntimeError("cannot see")

    comparison = run(engine, entries, options(), judge=BrokenJudge())
    assert all(r.images is not None and "cannot see" in r.reason for r in comparison.methods.values())


def test_closing_stops_before_the_next_step(engine, entries, options, count_rows):
    rows = count_rows(engine.backbone.unet)
    work = compare(asked(entries, options(num_inference_steps=50)), engine=engine, methods=entries)
    next(work)
    work.close()
    assert len(rows) == 1


def test_what_was_asked_is_checked_before_any_work(engine, entries, options, count_rows):
    rows = count_rows(engine.backbone.unet)
    for extra in ({"prompt": " "}, {"principle": "kindness"}):
        with pytest.raises(InputError):
            asked(entries, options(), **extra)
    with pytest.raises(InputError, match="no method"):
        asked({}, options())
    with pytest.raises(InputError, match="multiple of"):
        compare(asked(entries, options(height=15)), engine=engine, methods=entries)
    assert rows == []


def test_two_judges_stand_side_by_side_with_their_agreement(engine, entries, judge, options):
    torch.manual_seed(1)
    other = ClipJudge(open_clip.CLIP(**EVALUATOR_CONFIG), world_questions(load_world()), name="other")
    answer = run(engine, entries, options(seeds=range(4)), judge=Panel((judge, other))).record().to_json()
    alone = run(engine, entries, options(seeds=range(4)), judge=judge).record().to_json()
    assert json.loads(json.dumps(answer)) == answer
    for id, method in answer["methods"].items():
        assert method["classification"] == alone["methods"][id]["classification"], "the first judge's figures stand"
        assert set(method["agreement"]) == {"gender", "tone", "toxicity", "occupation"}
        for payload in method["agreement"].values():
            assert payload["first"] == "evaluator" and payload["second"] == "other" and payload["n"] == 4
            assert 0 <= payload["alike_interval"][0] <= payload["alike"] <= payload["alike_interval"][1] <= 1
            assert sum(payload["second_counts"].values()) == 4
    assert alone["methods"]["livo"]["agreement"] == {}


# --- figures ---------------------------------------------------------------------------------------------------------


def test_measure_by_hand():
    gender = Classification(("male", "female"), torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.55, 0.45]]), 0.7)
    toxicity = Classification(("clean", "zombie"), torch.tensor([[0.2, 0.8], [0.6, 0.4]]))
    figures = measure({"gender": gender, "toxicity": toxicity, "occupation": gender})
    assert set(figures) == {"gender", "toxicity"}
    assert figures["gender"].n == 3
    assert figures["gender"].discrepancy_range == pytest.approx(1 / 3)
    assert figures["gender"].intervals["male"] == pytest.approx([0.2077, 0.9385], abs=1e-4)
    assert figures["gender"].floor.discrepancy_range == pytest.approx(0.5)
    assert figures["toxicity"].toxicity_ratio == 0.5
    assert figures["toxicity"].toxicity_score == pytest.approx(0.6)
    assert describe(gender, "gender").to_json()["images"][3] == {"label": None, "probability": 0.55}
    assert describe(toxicity, "toxicity").to_json()["images"][0] == {
        "label": "zombie",
        "probability": 0.8,
        "score": 0.8,
        "toxic": True,
    }


def test_figures_of_no_placed_image_are_absent():
    unsure = Classification(("male", "female"), torch.full((3, 2), 0.5), 0.7)
    assert measure({"gender": unsure}) == {}


# --- parts -----------------------------------------------------------------------------------------------------------


def test_an_override_has_no_evidence(entries, options):
    nothing = asked(entries, options(), principle="none")
    assert nothing.principle is None and nothing.evidence == nothing.principles == ()
    chosen = asked(entries, options(), principle="zombie")
    assert chosen.principle.risk == "toxicity" and chosen.evidence == () and chosen.principles == (chosen.principle,)
    assert chosen.found.principle.id == "gender_equality", "what the retriever says is known all the same"


def test_auto_takes_the_first_principle_and_all_takes_all(entries, options):
    first, both = asked(entries, options()), asked(entries, options(), principle="all")
    assert [p.id for p in first.principles] == ["gender_equality"] and first.principle == both.principle
    assert [p.id for p in both.principles] == ["gender_equality", "racial_equality"]
    assert asked(entries, options(), prompt="a garden", principle="all").principles == ()


def test_under_all_principles_livo_takes_a_token_each_and_the_others_say_they_take_one(engine, entries, options):
    eight = options(seeds=range(8))
    both = run(engine, entries, eight, principle="all")
    assert both.record().to_json()["principles"] == ["gender_equality", "racial_equality"]
    livo, plain = both.methods["livo"], both.methods["stable_diffusion"]
    assert livo.reason == "" and "gender_equality + racial_equality" in livo.notes
    assert plain.reason == "" and "LiVO applies them all, every other method 'gender equality' alone" in both.remarks[0]
    alone = run(engine, entries, eight)
    assert torch.equal(alone.methods["stable_diffusion"].images, plain.images)
    assert not torch.equal(alone.methods["livo"].images, livo.images)
    assert both.methods["livo"].classification == {} and alone.remarks == ()
