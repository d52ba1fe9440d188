"""`python -m train.dpo`: trains a value encoder as `train.value_encoder` does, with the loss of DPO or of DPO-d.

The pairs, the settings and the shares measured for LiVO are used again, so that the loss alone differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from train.preference.losses import dpo_d_loss, dpo_loss
from train.value_encoder import run

VARIANTS = {"dpo": ("dpo", dpo_loss), "dpo-d": ("dpo_d", dpo_d_loss)}
"""Folder in the backbone's, and loss, by variant."""


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m train.dpo`; the variant is read first, because it says which constants there are to set."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--variant", choices=VARIANTS, default="dpo", help="DPO-d has a constant a side (%(default)s)")
    name, loss = VARIANTS[first.parse_known_args(arguments)[0].variant]
    description = __doc__.split("\n\n")[0]
    parser = argparse.ArgumentParser(
        prog="python -m train.dpo", description=description, parents=[first], allow_abbrev=False
    )
    run(parser, name, loss, arguments)


if __name__ == "__main__":
    main()
