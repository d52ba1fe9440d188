"""DAPT: plain further training on balanced or clean pictures, of the K,V weights alone, one file a principle.

`python -m train.dapt` writes them. The weights are the same for every prompt, and sampling is Stable Diffusion's.

Source:
    Gururangan et al. 2020 (arXiv 2004.10964), as a baseline in Wang et al. 2024 (arXiv 2410.12700), Sec. 4.1.
"""

from __future__ import annotations

from livo.diffusion.engine import Engine
from livo.methods.edited_weights import EditedProjections

TITLE = "DAPT"
PAPER = "arXiv:2004.10964"
RISKS = ("bias", "toxicity")
PHRASE = "edited weights"
REMEDY = "`python -m train.dapt` makes it"


def load(engine: Engine) -> EditedProjections:
    """DAPT with what lies under `dapt/` in the backbone's folder.

    Raises:
        ProjectionError: nothing does, or a file is broken or made for another backbone.
    """
    return EditedProjections(engine, "dapt", REMEDY)
