"""Where the page's own style and scripts lie."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
CSS = HERE / "page.css"
SCRIPTS = (HERE / "page.js", HERE / "viewer.js")
