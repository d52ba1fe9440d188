"""DPO: LiVO's value token, trained with direct preference optimisation instead of the margin loss.

Pairs, settings, cost and sampling are LiVO's, and the same images take the value; only the loss differs:
`train.preference.losses.dpo_loss`.

Source:
    Rafailov et al. 2023 (arXiv 2305.18290), as Wang et al. 2024 (arXiv 2410.12700), Sec. 4.1, compare with it.
"""

from __future__ import annotations

from livo.diffusion.engine import Engine
from livo.methods import livo as method
from livo.methods.livo import LiVO

TITLE = "DPO"
PAPER = "arXiv:2305.18290"
RISKS = ("bias", "toxicity")
PHRASE = "value token, DPO loss"


def load(engine: Engine) -> LiVO:
    """LiVO's method with the value encoder under `<backbone folder>/dpo`.

    Raises:
        ValueEncoderError: there is none, or it does not fit; the message says how to make one.
    """
    return method.load(engine, "dpo", "python -m train.dpo")
