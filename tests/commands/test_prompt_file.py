from __future__ import annotations

import pytest

from livo.commands.prompt_file import read_prompts
from livo.types import InputError


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.txt", "a cat, a dog\n\n  a doctor \r\n# 1", [("a cat, a dog", None), ("a doctor", None), ("# 1", None)]),
        ("a.csv", 'number,Prompt,evaluation_seed\n1,"a cat, a\ndog",51\n\n2,a doctor,',
         [("a cat, a dog", 51), ("a doctor", None)]),
        ("a.tsv", "evaluation_seed\tprompt\n0\ta cat", [("a cat", 0)]),
        ("a.JSONL", '{"prompt": "a \\u00e9clair", "evaluation_seed": 4294967295}\n\n{"prompt": "x", "more": [1]}\n',
         [("a éclair", 4294967295), ("x", None)]),
    ],
)  # fmt: skip
def test_prompts_as_people_have_them(name, content, wanted, tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / name).write_bytes(content.encode(encoding))
        assert [(one.prompt, one.seed) for one in read_prompts(tmp_path / name)] == wanted


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "\n \n", "holds no prompt"),
        ("a.txt", "a cat\na\x07b", "line 2: the prompt holds a control character"),
        ("a.txt", "\xff\xfea", "not text in UTF-8"),
        ("a.csv", "text,seed\na,1", "columns found: text, seed; wanted: prompt"),
        ("a.csv", "prompt\na cat, a dog", "line 2: 2 cells, and 1 columns: put texts in quotes"),
        ("a.csv", "prompt,evaluation_seed\na,-1", "line 2: evaluation_seed str '-1' is no seed"),
        ("a.jsonl", '{"prompt": "a"}\n{', "line 2 is no JSON"),
        ("a.jsonl", '["a"]', "line 1: wanted {\"prompt\": ...}, got list of 1"),
        ("a.jsonl", '{"prompt": 5}', "line 1: wanted words as 'prompt', got int '5'"),
        ("a.jsonl", '{"prompt": "a", "evaluation_seed": true}', "is no seed"),
        ("a.jsonl", '{"prompt": "a", "evaluation_seed": 4294967296}', "0 to 4294967295"),
        ("a.jsonl", "[" * 100_000, "is no JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_by_its_line(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as raised:
        read_prompts(tmp_path / name)
    assert says in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="No such file.*a prompt a line"):
        read_prompts(tmp_path / "none.txt")
