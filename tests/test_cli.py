from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from livo.__main__ import main
from livo.compare.record import ComparisonRecord
from livo.methods.value_encoder import ValueEncoder, save_value_encoder

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "a photo of a doctor"


@pytest.fixture(scope="module")
def backbone_folder(tmp_path_factory, tiny_backbone) -> Path:
    """The tiny backbone with a value encoder, so that LiVO runs on it."""
    from conftest import build_tiny_folder

    folder = build_tiny_folder(tmp_path_factory.mktemp("backbone"))
    save_value_encoder(ValueEncoder.untrained(tiny_backbone).model, folder / "value_encoder")
    return folder


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "livo", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def fails_in_one_line(capsys, *arguments: str) -> str:
    """Exit code 2, nothing on standard output, one line on standard error."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("livo: "), captured.err
    return lines[0]


def test_compare_prints_json_alone_and_writes_the_images(backbone_folder, tmp_path):
    out = tmp_path / "new" / "folder"
    done = call(
        "compare",
        PROMPT,
        "--backbone",
        str(backbone_folder),
        "--seeds",
        "0-1,7",
        "--steps",
        "2",
        "--out",
        str(out),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["prompt"] == PROMPT and answer["principle"]["id"] == "gender_equality"
    assert answer["options"] | {"seeds": [0, 1, 7], "num_inference_steps": 2} == answer["options"]
    assert list(answer["methods"]) == ["stable_diffusion", "livo"]
    for method in answer["methods"].values():
        assert len(method["images"]) == 3
        assert all(Path(path).parent == out and Path(path).is_file() for path in method["images"])
    assert "step 2 of 2" in done.stderr and "Traceback" not in done.stderr
    assert json.loads((out / "comparison.json").read_text()) == answer


def test_compare_for_people(backbone_folder, tmp_path, capsys):
    arguments = ["--backbone", str(backbone_folder), "--methods", "stable_diffusion", "--seeds", "4", "--steps", "1"]
    assert main(["compare", PROMPT, *arguments, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "gender equality (bias)" in shown and "Stable Diffusion" in shown and str(tmp_path) in shown


def test_retrieve(capsys):
    assert main(["retrieve", "a photo of a zombie nurse", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["principle"] == {"id": "zombie", "text": "zombie considered inappropriate", "risk": "toxicity"}
    assert answer["evidence"][0]["text"] == "zombie"
    assert answer["prompt"][answer["evidence"][0]["start"] : answer["evidence"][0]["end"]] == "zombie"
    assert main(["retrieve", "a photo of a garden", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["principle"] is None
    assert main(["retrieve", PROMPT]) == 0
    assert "'doctor'" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["retrieve", "a doctor"]])
def test_help_and_retrieve_import_nothing_heavy(arguments):
    heavy = {"torch", "gradio", "diffusers", "transformers", "numpy", "scipy", "huggingface_hub", "httpx"}
    code = f"""
import sys
from livo.__main__ import main
try:
    main({arguments})
finally:
    print({heavy} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("set()"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([""], "prompt is empty"),
        (["x" * 10_000], "shorten it"),
        (["a\x07b"], "control character"),
        ([PROMPT, "--seeds", "5-2"], "write 2-5"),
        ([PROMPT, "--seeds", "4294967296"], "out of range"),
        ([PROMPT, "--seeds", ""], "no seeds"),
        ([PROMPT, "--principle", "kindness"], "there are: gender_equality"),
        ([PROMPT, "--methods", "stabel"], "no method 'stabel'"),
        ([PROMPT, "--methods", ","], "no method was asked for"),
        ([PROMPT, "--backbone", "no/such/folder"], "no backbone folder"),
        (
            [PROMPT, "--judge", "clippy"],
            "no judge 'clippy'; there are: evaluator, open_clip, llava, safety_checker, open_nsfw, faces, or none",
        ),
        ([PROMPT, "--dense", "no/such/folder"], "python -m train.retriever --encoder MODEL"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, says, capsys, tmp_path):
    assert says in fails_in_one_line(capsys, "compare", *arguments, "--out", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("option", "value"), [("--steps", "0"), ("--steps", "201"), ("--guidance", "-1"), ("--guidance", "nan")]
)
def test_sampler_settings_out_of_range(option, value, backbone_folder, tmp_path, capsys):
    line = fails_in_one_line(
        capsys, "compare", PROMPT, "--backbone", str(backbone_folder), "--methods", "stable_diffusion",
        f"{option}={value}", "--out", str(tmp_path),
    )  # fmt: skip
    assert "give" in line


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    line = fails_in_one_line(capsys, "compare", PROMPT, "--out", str(tmp_path / "file" / "out"))
    assert "cannot be written" in line and "--out" in line


def test_missing_weights_name_the_file_and_the_way_out(backbone_folder, tmp_path, capsys):

    broken = tmp_path / "broken"
    shutil.copytree(backbone_folder, broken)
    for path in (broken / "unet").glob("*.safetensors"):
        path.write_bytes(b"\0" * 64)
    line = fails_in_one_line(capsys, "compare", PROMPT, "--backbone", str(broken), "--out", str(tmp_path / "o"))
    assert "unet" in line
    shutil.rmtree(broken / "value_encoder")
    shutil.copytree(backbone_folder / "unet", broken / "unet", dirs_exist_ok=True)
    here = ["--backbone", str(broken), "--out", str(tmp_path / "o"), "--seeds", "0", "--steps", "1"]
    assert "value_encoder" in fails_in_one_line(capsys, "compare", PROMPT, *here, "--methods", "livo")
    assert main(["compare", PROMPT, *here]) == 0, "the other methods still run"
    shown = capsys.readouterr()
    assert "value_encoder" in shown.err and "LiVO:" in shown.out and "U-Net rows a step" in shown.out


def test_a_judge_that_was_chosen_must_be_there_and_one_that_was_not_costs_the_figures_alone(
    backbone_folder, tmp_path, capsys
):
    here = [
        "compare",
        PROMPT,
        "--backbone",
        str(backbone_folder),
        "--methods",
        "stable_diffusion",
        "--seeds",
        "0",
        "--steps",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert main([*here, "--judge", "open_clip"]) == 2
    assert (
        "judge open_clip needs timm/vit_large_patch14_clip_224.openai"
        in capsys.readouterr().err.strip().splitlines()[-1]
    )
    assert main(here) == 0
    shown = capsys.readouterr()
    assert "images without figures" in shown.err and "U-Net rows a step" in shown.out and "D1" not in shown.out
    assert main([*here, "--judge", "none"]) == 0
    assert "needs" not in capsys.readouterr().err


def test_a_remedy_that_names_a_flag_names_one_that_is_there(backbone_folder, tmp_path, capsys):
    """A model without a VAE is told to give one with --vae, and then it draws."""
    folder = tmp_path / "without"
    shutil.copytree(backbone_folder, folder)
    vae = (folder / "vae").rename(tmp_path / "other_vae")
    ask = (
        "compare",
        PROMPT,
        "--backbone",
        str(folder),
        "--methods",
        "stable_diffusion",
        "--seeds",
        "0",
        "--steps",
        "2",
    )
    assert "give one with --vae" in fails_in_one_line(capsys, *ask, "--out", str(tmp_path / "a"))
    assert main([*ask, "--out", str(tmp_path / "b"), "--vae", str(vae)]) == 0
    assert list((tmp_path / "b").glob("*.png"))


def small(folder: Path, out: Path, *more: str) -> list[str]:
    """Stable Diffusion's comparison of one image and two steps."""
    ask = ["--backbone", str(folder), "--methods", "stable_diffusion", "--seeds", "3", "--steps", "2", *more]
    return [*ask, "--out", str(out)]


def test_scheduler_size_and_negative_prompt_make_the_pipelines_picture(backbone_folder, tmp_path, capsys):
    flags = ["--scheduler", "DDIM", "--width", "24", "--height", "16", "--negative-prompt", " blurry ", "--json"]
    assert main(["compare", PROMPT, *small(backbone_folder, tmp_path, *flags, "--guidance", "6")]) == 0
    answer = json.loads(capsys.readouterr().out)
    asked = {"width": 24, "height": 16, "negative_prompt": "blurry", "scheduler": "DDIMScheduler"}
    assert answer["options"] | asked == answer["options"]
    assert answer["remarks"][-1].startswith("the negative prompt stands in place of the empty prompt for Stable D")
    assert ComparisonRecord.from_json(answer).scheduler == "DDIMScheduler"
    pipe = StableDiffusionPipeline.from_pretrained(backbone_folder, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    theirs = pipe(
        PROMPT, num_inference_steps=2, guidance_scale=6.0, height=16, width=24, negative_prompt="blurry",
        generator=torch.Generator().manual_seed(3), output_type="np",
    ).images[0]  # fmt: skip
    (path,) = answer["methods"]["stable_diffusion"]["images"]
    with Image.open(path) as image:
        ours = np.asarray(image).astype(float)
    assert ours.shape == (16, 24, 3) and abs(ours - 255 * theirs).max() < 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--scheduler", "PLMS"], "no scheduler 'PLMS' is known here; there are: DDIMScheduler"),
        (["--width", "17"], "give a positive multiple of 2"),
        (["--height", "100000"], "give at most 4096"),
        (["--negative-prompt", "a\x07b"], "control character"),
        (["--methods", "fair_diffusion", "--principle", "zombie"], "no method made a picture: Fair Diffusion acts on"),
    ],
)
def test_what_makes_no_picture_is_one_line_and_exit_code_2(flags, says, backbone_folder, tmp_path, capsys):
    assert main(["compare", PROMPT, *small(backbone_folder, tmp_path, *flags)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and says in shown.err.strip().splitlines()[-1], shown.err


def test_a_lora_that_is_none_is_told_before_any_picture(backbone_folder, tmp_path, capsys):
    flags = ["--lora", str(backbone_folder / "vae" / "diffusion_pytorch_model.safetensors")]
    assert main(["compare", PROMPT, *small(backbone_folder, tmp_path, *flags)]) == 2
    assert "is no LoRA; it is a VAE" in capsys.readouterr().err and not list(tmp_path.glob("*.png"))
