"""The methods LiVO is compared with: one file each, and the folder is the list.

To add a method, write one file here, such as `baselines/my_method.py`, with

    TITLE = "My Method"                     # as the page and the tables print it
    PAPER = "arXiv:2401.00000"
    RISKS = ("bias",)                       # what it can act on: "bias", "toxicity" or both
    PHRASE = "guidance"                     # what kind of method it is, in two or three words; may be left out

    class MyMethod:
        def plan(self, prompt, principle, options) -> Plan: ...      # livo.types.Plan; None means "no principle"

    def load(engine) -> MyMethod: ...       # reads its weights, engine.add_projection(...) or add_unet(...)

Nothing else: the page lists it, `--methods my_method` finds it, the shared tests run on it. A file whose name begins
with an underscore is not a method.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from livo.compare.comparison import MethodEntry
from livo.diffusion.engine import Engine
from livo.methods import livo as livo_method
from livo.types import InputError

FIRST = "stable_diffusion"
LIVO = "livo"
SHOWN_FIRST = (FIRST, "fair_diffusion", "uce", "concept_ablation", LIVO)
"""The five that the page compares until a visitor chooses others."""


def available() -> dict[str, ModuleType]:
    """Method modules by id, the file's name: Stable Diffusion, LiVO (`livo.methods.livo`), then the others by name."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {FIRST: modules.pop(FIRST), LIVO: livo_method} | modules


def load_methods(
    ids: Iterable[str], engine: Engine, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, MethodEntry]:
    """Methods as a comparison takes them, by id, in the order given.

    One whose weights are missing, broken or another backbone's says so in its `problem` and takes no other along.

    Args:
        settings: by id, what its `load` shall be called with besides the engine.

    Raises:
        InputError: an id that no file has; nothing is loaded then.
    """
    modules, ids = available(), list(ids)
    for id in ids:
        if id not in modules:
            raise InputError(f"no method {id!r} in baselines/; there are: {', '.join(modules)}")
    entries = {}
    for id in ids:
        method, problem = None, ""
        try:
            method = modules[id].load(engine, **(settings or {}).get(id, {}))
        except (RuntimeError, ValueError, OSError) as error:
            problem = str(error)
        phrase = getattr(modules[id], "PHRASE", "")
        entries[id] = MethodEntry(modules[id].TITLE, modules[id].RISKS, method, problem, phrase)
    return entries
