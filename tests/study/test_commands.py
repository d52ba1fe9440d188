"""`python -m livo study`: every command, and bad input in one line."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from raters import make_folder

from livo.__main__ import main
from livo.study.commands import add_arguments
from livo.study.design import plan_of
from livo.study.study_file import IMAGES, Study, load_study
from livo.web.events import Draft, Store, default_url

ROOT = Path(__file__).resolve().parents[2]


def says(capsys, *arguments: str) -> str:
    assert main(["study", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def fails(capsys, *arguments: str) -> str:
    """Exit code 2, nothing on standard output, one line on standard error."""
    assert main(["study", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1 and captured.err.startswith("livo: "), (
        captured.err
    )
    return captured.err


@pytest.fixture
def images(tmp_path) -> Path:
    lines = ["file,prompt,method,seed"]
    for method in ("mine", "theirs"):
        for seed in range(3):
            Image.new("RGB", (12, 12), (40 * seed, 0, 90)).save(tmp_path / f"{method}{seed}.png")
            lines.append(f"{method}{seed}.png,a photo of a doctor,{method},{seed}")
    (tmp_path / "images.csv").write_text("\n".join(lines))
    return tmp_path


def test_a_study_from_a_folder_of_images_to_its_report(images, tmp_path, capsys):
    out = tmp_path / "study"
    output = says(
        capsys,
        "create",
        out,
        "--images",
        images,
        "--raters",
        3,
        "--ratings-per-rater",
        6,
        "--questions",
        "consistency_3,attribute",
    )
    assert "A study of 6 images" in output and "no judge's label" in output
    folder = load_study(out)
    assert (
        folder.study.raters == 3
        and folder.study.questions == ("consistency_3", "attribute")
        and len(list((out / IMAGES).iterdir())) == 12
    )
    links = says(capsys, "links", out, "--base", "https://example.org/study/")
    assert (
        f"r003  {folder.code(2)}  https://example.org/study/{folder.name}/#{folder.code(2)}" in links
        and folder.organiser_key in links
    )
    store = Store(default_url(out), folder.digest, folder.secret)
    store.append(Draft(0, "k" * 20, "consent", body={"adult": True, "version": folder.digest, "language": "en"}))
    for n, trial in enumerate(plan_of(folder, 0).trials):
        store.append(
            Draft(
                0, f"key-{n:020d}", "answer", {"trial": trial.token, "question": "consistency_3", "value": 1.0, "ms": 1}
            )
        )
    store.close()
    status = json.loads(says(capsys, "status", out, "--json"))
    assert status["answers"] == 6 and status["problems"] == [] and status["frozen"]
    assert "r001  under way" in says(capsys, "status", out)
    said = says(capsys, "report", out)
    assert "100.0" in said and "[100.0" not in said  # too few prompts for an interval
    assert (out / "report" / "report.html").is_file()
    assert (
        "ratings.csv" in says(capsys, "export", out, "--out", tmp_path / "x")
        and (tmp_path / "x" / "ratings.csv").is_file()
    )
    assert "7 events" in says(capsys, "verify", out)
    assert "set aside" in says(capsys, "withdraw", out, "r001")
    assert "r001  withdrawn" in says(capsys, "status", out)
    assert "deleted" in says(capsys, "withdraw", out, "r001", "--erase") and "1 events" in says(capsys, "verify", out)


def test_a_study_begins_with_a_file_that_options_change(images, tmp_path, capsys):
    file = "livo/study/table4.yaml"
    says(capsys, "create", tmp_path / "s", "--images", images, "--file", file, "--raters", 3, "--gold-every", 0)
    study = load_study(tmp_path / "s").study
    assert [q.id for q in study.asked] == ["consistency_100", "quality_3", "gender", "race", "toxic"]
    assert (study.raters, study.ratings_per_rater, study.gold_every, study.synthetic) == (3, 60, 0, False)
    assert "zh" in study.instructions
    assert "cannot be read" in fails(capsys, "create", tmp_path / "t", "--images", images, "--file", tmp_path / "none")


def test_a_study_from_stored_comparisons(tmp_path, capsys):
    (tmp_path / "c").mkdir()
    payload = {
        "prompt": "a photo of a doctor",
        "principle": {"id": "gender_equality"},
        "options": {"seeds": [0, 1]},
        "methods": {},
    }
    for method in ("a", "b"):
        paths = []
        for seed in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / "c" / f"{method}{seed}.png")
            paths.append(f"comparison/{method}{seed}.png")
        payload["methods"][method] = {"images": paths, "classification": {}}
    (tmp_path / "c" / "comparison.json").write_text(json.dumps(payload))
    assert "A study of 4 images" in says(capsys, "create", tmp_path / "s", "--comparisons", tmp_path / "c")
    assert "make one with" in fails(capsys, "create", tmp_path / "t", "--comparisons", tmp_path / "nowhere")
    (tmp_path / "c" / "a1.png").unlink()
    assert "is missing" in fails(capsys, "create", tmp_path / "t", "--comparisons", tmp_path / "c")


def test_a_study_is_generated_by_one_command(tiny_folder, tmp_path, capsys):
    output = says(
        capsys, "create", tmp_path / "s", "--prompts", "a photo of a doctor", "a photo of a zombie nurse",
        "--backbone", tiny_folder,
        "--methods", "stable_diffusion", "--seeds", "0-1", "--steps", "1", "--raters", "2",
    )  # fmt: skip
    assert "A study of 4 images" in output
    items = load_study(tmp_path / "s").items.values()
    assert {(i.prompt, i.category) for i in items} == {
        ("a photo of a doctor", ""),
        ("a photo of a zombie nurse", "zombie"),
    }
    assert load_study(tmp_path / "s").titles == {"stable_diffusion": "Stable Diffusion"}


def test_bad_input_is_one_line(images, tmp_path, capsys):
    folder = make_folder(tmp_path / "made")
    for arguments, line in (
        (["status", tmp_path / "none"], "study create"),
        (["create", tmp_path / "made", "--images", images], "already"),
        (["create", tmp_path / "s", "--images", tmp_path / "none"], "list the images there"),
        (["create", tmp_path / "s", "--images", images, "--raters", "0"], "wanted at least 1"),
        (["create", tmp_path / "s", "--images", images, "--questions", "beauty"], "there are: consistency_3"),
        (["create", tmp_path / "s", "--images", images, "--title", "mine wins"], "names the method"),
        (["create", tmp_path / "s", "--prompts", "", "--seeds", "0"], "prompt is empty"),
        (["create", tmp_path / "s", "--prompts", "a cat", "--methods", "stabel"], "no method 'stabel'"),
        (["withdraw", folder.path, "nobody"], "give r001 to r005"),
        (["status", folder.path, "--store", "nonsense"], "no store"),
        (["serve", folder.path, folder.path, "--store", "sqlite:////x"], "several studies"),
    ):
        assert line in fails(capsys, *arguments), arguments


@pytest.mark.parametrize("asked", [("conformity",), ("preference", "--pairs-per-rater", 4)])
def test_a_study_that_would_ask_nobody_anything_is_refused(images, tmp_path, capsys, asked):
    """Raters consented to it, and were thanked for 0 of 0."""
    if asked[0] == "preference":  # of one method there is nothing to compare
        kept = [line for line in (images / "images.csv").read_text().splitlines() if ",theirs," not in line]
        (images / "images.csv").write_text("\n".join(kept))
    out = tmp_path / "study"
    assert "nobody would be asked" in fails(capsys, "create", out, "--images", images, "--questions", *asked)
    assert not out.exists()
    assert f"calls for it: {asked[0]}" in says(
        capsys, "create", out, "--images", images, "--questions", f"consistency_5,{asked[0]}", *asked[1:]
    )


def test_serving_refuses_a_taken_port_changed_files_and_a_passing_disk(tmp_path, capsys, monkeypatch):
    folder = make_folder(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "--port 0" in fails(capsys, "serve", folder.path, "--port", taken.getsockname()[1])
    monkeypatch.setenv("SPACE_ID", "a/b")
    monkeypatch.setattr("os.path.ismount", lambda path: False)
    assert "--allow-ephemeral" in fails(capsys, "serve", folder.path)
    monkeypatch.delenv("SPACE_ID")
    store = Store(default_url(folder.path), folder.digest, folder.secret)
    store.append(Draft(0, "k" * 20, "skip"))
    store.close()
    (folder.path / "study.yaml").write_text((folder.path / "study.yaml").read_text().replace("raters: 5", "raters: 6"))
    assert "changed since the first answer" in fails(capsys, "serve", folder.path)
    assert "another state" in fails(capsys, "verify", folder.path).replace("\n", " ")


def test_nothing_heavy_is_imported_to_serve():
    code = (
        "import sys, livo.study.web.serve, livo.study.report, livo.study.export; "
        "print({'torch', 'gradio', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


def test_create_has_a_flag_for_every_field_that_a_flag_can_hold():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = vars(parser.parse_args(["create", "s", "--images", "x", "--exclude", "speed, checks", "--mood"]))
    assert set(Study.model_fields) - set(args) == {"support", "codes", "demographics", "instructions"}
    assert args["exclude"] == ("speed", "checks") and args["mood"] and args["raters"] is None
