"""What exists in the second edition: `world.yaml`, read as the first's is."""

from __future__ import annotations

from pathlib import Path

from livo.miniature import world as first
from livo.miniature.world import Scene, World

__all__ = ["Scene", "World", "load_world"]


def load_world(path: Path = Path(__file__).parent / "world.yaml") -> World:
    """Read the second edition's tables; raises as `livo.miniature.world.load_world` does."""
    return first.load_world(path)
