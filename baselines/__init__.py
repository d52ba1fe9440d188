"""The methods LiVO is compared with: one file each, and the folder is the list.

To add a method, write one file here, such as `baselines/my_method.py`, with

    TITLE = "My Method"                     # as the page and the tables print it
    PAPER = "arXiv:2401.00000"
    RISKS = ("bias",)                       # what it can act on: "bias", "toxicity" or both

    class MyMethod:
        def plan(self, prompt, principle, options) -> Plan: ...      # livo.types.Plan; None means "no principle"

    def load(engine) -> MyMethod: ...       # reads its weights, engine.add_projection(...) or add_trunk(...)

Nothing else: the page lists it, `--methods my_method` finds it, the shared tests run on it. A file whose name begins
with an underscore is not a method.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from livo import method as livo_method
from livo.engine import Engine
from livo.types import InputError, Method

FIRST = "stable_diffusion"
LIVO = "livo"


def available() -> dict[str, ModuleType]:
    """Method modules by id, which is the file's name: Stable Diffusion first, LiVO (`livo.method`) last."""
    names = [info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")]
    names.sort(key=lambda name: (name != FIRST, name))
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return modules | {LIVO: livo_method}


def load_methods(ids: Iterable[str], engine: Engine) -> dict[str, Method]:
    """Methods ready to plan, by id, in the order given.

    Raises:
        InputError: an id that no file has; nothing is loaded then.
    """
    modules, ids = available(), list(ids)
    for id in ids:
        if id not in modules:
            raise InputError(f"no method {id!r} in baselines/; there are: {', '.join(modules)}")
    return {id: modules[id].load(engine) for id in ids}
