"""DPO-d: DPO with a constant for each side of a pair, between DPO and LiVO, which bounds each side as well.

Everything but `train.preference.losses.dpo_d_loss` is as in `dpo.py`.

Source:
    Wang et al. 2024 (arXiv 2410.12700), which names it DPO-d.
"""

from __future__ import annotations

from livo.diffusion.engine import Engine
from livo.methods import livo as method
from livo.methods.livo import LiVO

TITLE = "DPO-d"
PAPER = "arXiv:2410.12700"
RISKS = ("bias", "toxicity")
PHRASE = "value token, DPO-d loss"


def load(engine: Engine) -> LiVO:
    """LiVO's method with the value encoder under `<backbone folder>/dpo_d`.

    Raises:
        ValueEncoderError: there is none, or it does not fit; the message says how to make one.
    """
    return method.load(engine, "dpo_d", "python -m train.dpo --variant dpo-d")
