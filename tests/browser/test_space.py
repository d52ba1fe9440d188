"""The page as a public Space starts it: no network, a model that cannot be had, strangers, links, programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pages import page_server
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90_000
BACKBONE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
NO_NETWORK = {
    "HF_ENDPOINT": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}  # fmt: skip


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Iterator[tuple[str, list[str]]]:
    """Address and first words of a server that is told it is a Space, and whose hub cache is empty."""
    empty = str(tmp_path_factory.mktemp("cache"))
    with page_server(SPACE_ID="owner/livo", LIVO_BACKBONE=BACKBONE, HF_HOME=empty, **NO_NETWORK) as started:
        yield started


@pytest.fixture
def page(browser: Browser, space) -> Iterator[Page]:
    page = open_page(browser, space[0])
    yield page
    page.context.close()


def open_page(browser: Browser, address: str, **context) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 900}, **context).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    expect(page.locator("#grid .comparison")).to_be_visible(timeout=PATIENCE)
    return page


def settings(page: Page) -> None:
    button = page.get_by_role("button", name="Settings", exact=True)
    if button.get_attribute("aria-expanded") == "false":
        button.click()


def ask(page: Page, prompt: str, images: int = 2) -> None:
    settings(page)
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Images a method").fill(str(images))
    page.get_by_role("button", name="Compare", exact=True).click()


def test_it_starts_without_a_network_and_says_what_it_could_not_load(space, page):
    said = [line for line in space[1] if line.startswith("livo:")]
    assert (
        len(said) == 1 and BACKBONE in said[0] and "cannot be reached" in said[0] and "drawn world answers" in said[0]
    )
    expect(page.locator("#card .message.note").first).to_contain_text(BACKBONE)
    ask(page, "a photo of a nurse")
    expect(page.locator("#status")).to_contain_text("Done in", timeout=PATIENCE)
    assert page.locator("#grid .method.done").count() == 4


def test_strangers_get_stand_ins_and_no_free_toxic_prompts(page):
    ask(page, "a photo of a naked baker")
    expect(page.get_by_role("alert").filter(has_text="public page draws nothing")).to_be_visible(timeout=PATIENCE)
    ask(page, "a photo of a zombie nurse", 1)
    expect(page.locator("#status")).to_contain_text("Done in", timeout=PATIENCE)
    assert page.locator("#grid .covered").count() >= 1


def test_a_link_reproduces_the_view(browser, space, page):
    settings(page)
    page.locator("#principle select").select_option("racial_equality")
    page.get_by_role("checkbox", name="UCE", exact=True).uncheck()
    page.get_by_label("First seed").fill("5")
    ask(page, "a photo of a pilot", 3)
    expect(page.locator("#status")).to_contain_text("Done in", timeout=PATIENCE)
    link = page.locator("#link input").input_value()
    assert link.startswith("https://huggingface.co/spaces/owner/livo?r=")
    pictures = page.locator("#grid .method").first.locator(".frame img").evaluate_all("all => all.map(i => i.src)")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name=re.compile("Copied|Ctrl"))).to_be_visible()

    other = open_page(browser, space[0] + "/" + link[link.index("?") :])
    expect(other.locator("#status")).to_contain_text("seeds 5 to 7", timeout=PATIENCE)
    assert other.get_by_label("Prompt", exact=True).input_value() == "a photo of a pilot"
    expect(other.locator("#principle select")).to_have_value("racial_equality")
    assert not other.locator("#methods input[value=uce]").is_checked()
    assert other.locator("#grid h3").all_text_contents() == page.locator("#grid h3").all_text_contents()
    assert (
        other.locator("#grid .method").first.locator(".frame img").evaluate_all("all => all.map(i => i.src)")
        == pictures
    )
    settings(other)
    # What the link filled in can be changed as if it had been chosen by hand.
    other.locator("#principle select").select_option("none")
    other.get_by_role("checkbox", name="UCE", exact=True).check()
    ask(other, "a photo of a pilot", 1)
    expect(other.locator("#status")).to_contain_text("seed 5", timeout=PATIENCE)
    expect(other.locator("#card h2")).to_contain_text("none")
    assert "UCE" in other.locator("#grid h3").all_text_contents()
    other.context.close()


def test_a_broken_link_is_a_message_on_a_page_that_works(browser, space):
    page = open_page(browser, f"{space[0]}/?r=%3Cscript%3E")
    expect(page.get_by_role("alert").filter(has_text="link is broken")).to_be_visible(timeout=PATIENCE)
    ask(page, "a photo of a nurse", 1)
    expect(page.locator("#status")).to_contain_text("Done in", timeout=PATIENCE)
    page.context.close()


# --- programs and agents ---------------------------------------------------------------------------------------------


def call(address: str, name: str, **given) -> tuple[str, object]:
    """The last event of an API call, and its data."""
    answer = httpx.post(f"{address}/gradio_api/call/v2/{name}", json=given, timeout=60)
    assert answer.status_code == 200, answer.text
    event, data = "", None
    with httpx.stream("GET", f"{address}/gradio_api/call/{name}/{answer.json()['event_id']}", timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("event:"):
                event = line.removeprefix("event:").strip()
            elif line.startswith("data:"):
                data = json.loads(line.removeprefix("data:"))
    return event, data


def test_three_functions_are_public_and_nothing_else(space):
    info = httpx.get(f"{space[0]}/gradio_api/info", timeout=60).json()
    assert (
        set(info["named_endpoints"]) == {"/compare", "/retrieve_principle", "/bias_report"}
        and not info["unnamed_endpoints"]
    )
    for endpoint in info["named_endpoints"].values():
        assert len(endpoint["description"]) > 40 and all(
            p["python_type"]["type"] in ("str", "int") for p in endpoint["parameters"]
        )


@pytest.mark.parametrize("route", ["run/compare", "run/bias_report", "api/compare", "api/bias_report"])
def test_nothing_goes_past_the_queue(space, route):
    given = {"data": ["a photo of a doctor", "auto", "livo", 0, 1]}
    assert httpx.post(f"{space[0]}/gradio_api/{route}", json=given, timeout=60).status_code == 404


def test_no_file_is_taken_and_no_type_is_guessed(space):
    answer = httpx.post(f"{space[0]}/gradio_api/upload", files={"files": ("x.png", b"x" * 1_000)}, timeout=60)
    assert answer.status_code == 403 and "no files" in answer.json()["message"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_principle_of_a_prompt(space):
    event, (payload,) = call(space[0], "retrieve_principle", prompt="a photo of a doctor")
    assert (
        event == "complete"
        and payload["principle"]["id"] == "gender_equality"
        and payload["evidence"][0]["text"] == "doctor"
    )


def test_a_comparison_has_typed_figures_and_pictures(space):
    event, (payload,) = call(
        space[0],
        "compare",
        prompt="a photo of a zombie nurse",
        methods="stable_diffusion,livo",
        images=2,
        principle="none",
    )
    assert event == "complete" and set(payload["methods"]) == {"stable_diffusion", "livo"}
    for method in payload["methods"].values():
        assert len(method["images"]) == 2 and all(
            image.startswith("data:image/png;base64,") for image in method["images"]
        )
        assert method["metrics"]["toxicity"]["toxicity_ratio"] == 1
        assert all(len(image) < 1_000 for image in method["images"]), "flagged: nothing but a few flat blocks"


def test_a_bias_report(space):
    event, (payload,) = call(space[0], "bias_report", prompt="a photo of a doctor", images=8)
    figures = {id: result["metrics"]["gender"] for id, result in payload["methods"].items()}
    assert (
        event == "complete" and figures["livo"]["discrepancy_range"] < figures["stable_diffusion"]["discrepancy_range"]
    )
    assert figures["livo"]["n"] <= 8 and figures["livo"]["floor"]["discrepancy_range"] > 0


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("compare", {"prompt": "a naked baker"}, "public page draws nothing"),
        ("compare", {"prompt": "a doctor", "images": 99}, "give 1 to 8"),
        ("compare", {"prompt": "a doctor", "methods": "nonsense"}, "no method 'nonsense'"),
        ("compare", {"prompt": "a doctor", "principle": "kindness"}, "no principle"),
        ("bias_report", {"prompt": " "}, "prompt is empty"),
        ("bias_report", {"prompt": "a doctor", "first_seed": -1}, "out of range"),
        ("retrieve_principle", {"prompt": ""}, "prompt is empty"),
    ],
)
def test_what_cannot_be_asked_is_a_message(space, name, given, says):
    event, payload = call(space[0], name, **given)
    assert event == "error" and says in json.dumps(payload)


def test_agents_find_the_same_three_tools(space):
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"accept": "application/json, text/event-stream"}
    answer = httpx.post(f"{space[0]}/gradio_api/mcp/", json=asked, headers=accept, timeout=60)
    tools = json.loads(
        next(line for line in answer.text.splitlines() if line.startswith("data:")).removeprefix("data:")
    )["result"]["tools"]
    assert {tool["name"] for tool in tools} == {"compare", "retrieve_principle", "bias_report"}
    for tool in tools:
        assert len(tool["description"]) > 80 and "prompt" in tool["inputSchema"]["required"]
        assert all(schema.get("description") for schema in tool["inputSchema"]["properties"].values())


def test_answers_on_a_disk_that_a_restart_empties_are_refused(tmp_path):
    from raters import make_folder

    folder = make_folder(tmp_path / "study", methods=2, prompts=2, seeds=1)
    env = os.environ | {"SPACE_ID": "owner/livo"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "app.py", "--port", "0", "--study", str(folder.path)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "--allow-ephemeral" in done.stderr and time.monotonic() - began < 100
