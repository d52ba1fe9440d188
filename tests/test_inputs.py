from __future__ import annotations

import pytest

from livo.inputs import parse_seeds, validate_prompt
from livo.types import MAX_IMAGES, MAX_SEED, InputError


@pytest.mark.parametrize(
    "prompt", ["", "   ", "\t\n", "\u200b", "x" * 1_001, "x" * 10_000, "a\x00b", "a\nb", "a\x1b[31m", "\udcff"]
)
def test_prompts_that_cannot_be_used(prompt):
    with pytest.raises(InputError) as caught:
        validate_prompt(prompt)
    assert len(str(caught.value)) < 200 and any(word in str(caught.value) for word in ("describe", "shorten", "remove"))


@pytest.mark.parametrize(
    "prompt", ["医生的照片", "صورة طبيب", "<script>alert('x')</script>", "a 👩‍⚕️", "x" * 1_000, "${x} {{y}}"]
)
def test_any_script_and_markup_is_text(prompt):
    assert validate_prompt(prompt) == prompt


@pytest.mark.parametrize("text", ["", " ", "a", "-1", "1-", "3-1", "1,,2", "1;2", "1.5", "0x3", "١", f"{MAX_SEED + 1}", f"0-{MAX_IMAGES}", "0-4294967295", "2,1-3", "9" * 30])  # fmt: skip
def test_seeds_that_cannot_be_used(text):
    with pytest.raises(InputError):
        parse_seeds(text)


def test_seeds():
    assert parse_seeds("0-49") == tuple(range(50))
    assert parse_seeds(" 60 , 2 - 3 ") == (60, 2, 3)
    assert parse_seeds(str(MAX_SEED)) == (MAX_SEED,)
