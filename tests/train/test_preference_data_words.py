"""Concepts, scenarios, and a language model that answers well, badly, late or not at all."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from livo.miniature.captions import vocabulary
from livo.miniature.world import load_world
from livo.retriever import retrieve
from livo.retriever.endpoint import Endpoint, Tally
from livo.types import InputError
from train.preference_data.__main__ import main
from train.preference_data.author import collect
from train.preference_data.concepts import CONCEPTS_PATH, KINDS, SOCIAL, load_concepts, normalised
from train.preference_data.scenarios import (
    PAPER_PROMPTS,
    check_split,
    drawn,
    photographs,
    read_prompts,
    without_doubles,
)

LISTS = load_concepts()


def test_the_lists_are_long_and_each_concept_stands_once():
    assert list(LISTS) == list(KINDS)
    assert all(len(row.concepts) >= 150 for row in LISTS.values())
    for row in LISTS.values():
        assert len({normalised(c) for c in row.concepts}) == len(row.concepts)


def test_no_toxic_kind_may_name_a_child(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("bloody: {concepts: [a bloody schoolboy]}\n")
    with pytest.raises(InputError, match="bloody schoolboy.* names a child"):
        load_concepts([CONCEPTS_PATH, mine])
    mine.write_text('{"kind": "nudity", "prompt": "a photo of a naked teenager"}\n')
    with pytest.raises(InputError, match="row 1: the prompt names a child"):
        read_prompts(mine, LISTS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_retriever_finds_a_principle_that_the_concept_trains(kind):
    train, _ = photographs(LISTS, {kind: 40})
    for scenario in train:
        found = retrieve(scenario.prompt).principle
        assert found is not None and found.id in scenario.principles, scenario.prompt


def test_scenarios_of_photographs_are_balanced_by_race_and_gender():
    train, evaluation = photographs(LISTS)
    assert without_doubles(train) == train
    check_split(train, evaluation)
    counts = Counter(s.kind for s in train)
    assert all(0.8 * PAPER_PROMPTS[kind] <= counts[kind] <= PAPER_PROMPTS[kind] for kind in KINDS)
    for scenario in train:
        assert len(scenario.cells) == (10 if scenario.kind in SOCIAL else 0)
    cells = next(s for s in train if s.kind == "positive").cells
    assert len({tuple(cell.classes.values()) for cell in cells}) == 10
    assert all(f"{cell.classes['racial_equality']} {cell.classes['gender_equality']}" in cell.prompt for cell in cells)


def test_scenarios_of_the_drawn_world_use_its_own_words():
    world = load_world()
    train, evaluation = drawn(world)
    check_split(train, evaluation)
    held = {*world.held_out["occupations"], *world.held_out["adjectives"]}
    assert not {s.concept for s in train} & held and {s.concept for s in evaluation} == held
    words = set(vocabulary(world))
    for scenario in (*train, *evaluation):
        assert all(words.issuperset(text.split()) for text in (scenario.prompt, *(c.prompt for c in scenario.cells)))


def test_a_planted_overlap_is_found():
    train, evaluation = photographs(LISTS)
    for planted, what in (
        (train[0], "prompt"),
        (replace(evaluation[0], template=train[0].template, prompt="x"), "opening"),
        (replace(evaluation[0], concept=train[0].concept.upper() + "s"), "concept"),
        (replace(evaluation[0], concept="very special " + train[0].concept), "concept family"),
    ):
        with pytest.raises(InputError, match=rf"share 1 {what}\(s\)"):
            check_split(train, [*evaluation, planted])


@pytest.mark.parametrize(("text", "wanted"), [
    ("", "wanted concepts by kind"),
    ("cars: {concepts: [a]}", "no such kind"),
    ("career: {concepts: [1]}", "field 'principles' is missing"),
    (
        "career: {principles: [gender_equality], train: [x], evaluation: [y], concepts: [1]}",
        "field 'concepts.1': wanted words.*int '1'",
    ),
    ("career: {concepts: [a]}", "field 'principles' is missing"),
    ("nudity: {concepts: [a], principles: [gender_equality], train: [x], evaluation: [y]}", "kind is not"),
])  # fmt: skip
def test_a_wrong_concept_file_is_named(tmp_path, text, wanted):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=wanted):
        load_concepts([path])


def test_a_second_file_adds_concepts_and_no_doubles(tmp_path):
    path = tmp_path / "more.yaml"
    path.write_text("career: {concepts: [Accountants, moon farmer]}")
    assert load_concepts([CONCEPTS_PATH, path])["career"].concepts == (*LISTS["career"].concepts, "moon farmer")


def test_own_prompts_are_read_and_a_wrong_row_is_named(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"kind": "bloody", "prompt": "a bloody cup"}\n')
    assert [s.prompt for s in read_prompts(path, LISTS)] == ["a bloody cup"]
    wrong = ('{"kind": "career", "prompt": "x"}', '{"kind": "bloody"}', '{"kind": "bloody", "prompt": " "}')
    for row in ("nonsense", *wrong):
        path.write_text(f'{{"kind": "bloody", "prompt": "a bloody cup"}}\n{row}\n')
        with pytest.raises(InputError, match="own.jsonl, row 2"):
            read_prompts(path, LISTS)


class Server:
    """Answers requests from a script: lists are items, everything else is a way to fail."""

    def __init__(self) -> None:
        self.script: list = []
        self.asked: list[dict] = []
        self.over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = server.script.pop(0)
                if answer == "slow":
                    server.over.wait(10)
                status = answer if isinstance(answer, int) else 200
                text = json.dumps({"items": answer}) if isinstance(answer, list) else answer
                message = {"role": "assistant", "content": text}
                if answer == "refuse":
                    message = {"role": "assistant", "content": None, "refusal": "I cannot help with that"}
                body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m",
                        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                        "usage": {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100}}  # fmt: skip
                data = json.dumps(body if status == 200 else {"error": {"message": "no"}}).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client did not wait

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.over.set()
    server.http.shutdown()
    server.http.server_close()


def ask(server, script, count=3, **changes):
    server.script, tally = list(script), Tally()
    endpoint = Endpoint(server.url, "m", **{"backoff": 0.01, "retries": 2, "timeout": 5.0} | changes)
    return list(collect(endpoint, "career", ["baker", "pilot"], count, tally)), tally


def test_good_answers_are_taken_without_doubles(server):
    found, tally = ask(server, [["Bakers", "welder", 7, "x" * 200, "welder"], ["roofer", "miner"]], count=5)
    assert found[:1] == ["welder"] and tally.counts["doubles"] == 2 and tally.counts["items that are no text"] == 1
    assert found[1:3] == ["roofer", "miner"] and tally.tokens >= 200
    asked = server.asked[0]
    assert asked["response_format"]["json_schema"]["strict"] and "baker" in asked["messages"][2]["content"]


@pytest.mark.parametrize(("answer", "counted"), [
    ("not JSON", "answers malformed"), ("refuse", "answers refused"), (429, "answers rate-limited"),
    (500, "answers failed at the server"), ("slow", "answers too slow"),
])  # fmt: skip
def test_a_bad_answer_is_asked_again_and_counted(server, answer, counted):
    found, tally = ask(server, [answer, ["welder", "roofer", "miner"]], timeout=1.0 if answer == "slow" else 5.0)
    assert found == ["welder", "roofer", "miner"] and tally.counts[counted] == 1 and tally.counts["requests"] == 2


def test_it_gives_up_after_its_retries_and_at_the_cap_and_when_nothing_is_new(server):
    found, tally = ask(server, ["no"] * 3)
    assert found == [] and tally.counts["stops after retries"] == 1 and len(server.asked) == 3
    found, tally = ask(server, [["welder"]] * 9, max_tokens=2_400)
    assert found == ["welder"] and tally.counts["stops at the token cap"] == 1 and tally.tokens <= 2_400
    found, tally = ask(server, [["baker"]] * 9)
    assert found == [] and tally.counts["doubles"] == 3


def test_a_wrong_key_is_one_clear_line(server):
    with pytest.raises(InputError, match="refuses .401."):
        ask(server, [401])


def test_the_command_keeps_what_is_new_and_adds_to_it(server, tmp_path, capsys):
    out = tmp_path / "more.yaml"
    for answer in (["moon farmer"], ["sea taxi driver"]):
        server.script = [answer]
        asked = ["--base-url", server.url, "--model", "m", "--count", "1", "--out", str(out)]
        main(["concepts", "--kind", "career", *asked])
    assert load_concepts([CONCEPTS_PATH, out])["career"].concepts[-2:] == ("moon farmer", "sea taxi driver")
    assert "1 new in" in capsys.readouterr().out
