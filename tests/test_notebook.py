"""The notebook for a GPU elsewhere, run from its first cell to its last with the drawn world."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "assets" / "notebook.ipynb"
PATIENCE = 500
"""Seconds a cell: CI machines are slow, and may be training beside."""


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", ()))


def test_every_cell_runs(tmp_path, monkeypatch):
    for name, value in (("LIVO_BACKBONE", "miniature"), ("LIVO_VALUE_ENCODER", ""), ("LIVO_OUT", str(tmp_path))):
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "stored without what it printed"
    client = NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": ROOT}})
    client.execute()
    text = "\n".join(map(printed, notebook.cells))
    assert "LiVO is open at http://127.0.0.1:" in text and "principle: gender equality" in text
    assert "LiVO {'gender'" in text and "LiVO: ready" in text
    shown = [data for cell in notebook.cells for output in cell.get("outputs", ()) for data in output.get("data", ())]
    assert "image/png" in shown and "text/html" in shown
    with zipfile.ZipFile(io.BytesIO((tmp_path / "livo-comparison.zip").read_bytes())) as archive:
        names = archive.namelist()
    assert sum(name.endswith(".png") and "livo" in name for name in names) >= 4 and any("json" in n for n in names)


def test_what_people_are_to_run_is_the_published_model():
    """The test above puts another in its place by variables; unset, these stand."""
    source = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    assert '"stable-diffusion-v1-5/stable-diffusion-v1-5")' in source and '"adstellaria/LiVO")' in source
