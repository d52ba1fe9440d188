from __future__ import annotations

import pytest
import torch

from train.preference.chunks import Chunks


def table(folder, made: list, count: int = 10) -> Chunks:
    def make(first: int, end: int) -> torch.Tensor:
        made.append((first, end))
        return torch.arange(first, end).float()[:, None].expand(-1, 3) * 2

    return Chunks(folder, count, make, 4)


def test_rows_are_computed_once_and_read_by_number(tmp_path):
    made: list = []
    table(tmp_path, made).fill("rows")
    assert made == [(0, 4), (4, 8), (8, 10)]
    again = table(tmp_path, made)
    again.fill("rows")
    assert len(made) == 3
    assert again.rows([9, 0, 9, 5])[:, 0].tolist() == [18.0, 0.0, 18.0, 10.0]


def test_processes_share_the_work(tmp_path):
    made: list = []
    table(tmp_path, made).fill("rows", process=1, processes=2)
    assert made == [(4, 8)]
    table(tmp_path, made).fill("rows", process=0, processes=2)
    assert sorted(made) == [(0, 4), (4, 8), (8, 10)]
    assert table(tmp_path, made).rows(range(10))[:, 1].tolist() == [2.0 * i for i in range(10)]


class Killed(BaseException):
    pass


def test_a_chunk_is_there_whole_or_made_again(tmp_path, monkeypatch):
    import train.preference.chunks as chunks

    made: list = []

    def dies(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(chunks.os, "replace", dies)
        with pytest.raises(Killed):
            table(tmp_path, made).fill("rows")
    table(tmp_path, made).fill("rows")
    assert made == [(0, 4), (0, 4), (4, 8), (8, 10)]
    (tmp_path / "00001.safetensors").write_bytes((tmp_path / "00001.safetensors").read_bytes()[:50])
    mended = table(tmp_path, made)
    mended.fill("rows")
    assert made[4:] == [(4, 8)] and mended.rows([7])[0, 0] == 14
