"""Preference losses, pure functions of four denoising errors.

Notation: `_w` the chosen (winning) image y_w, `_l` the rejected (losing) image y_l, `ref_` the frozen model without a
value token. Each error is the mean of (predicted noise - noise)^2 over C, h, w; tensors of shape (N,), >= 0.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu


def livo_loss(
    mse_w: Tensor,
    ref_mse_w: Tensor,
    mse_l: Tensor,
    ref_mse_l: Tensor,
    *,
    beta: float = 1000.0,
    alpha: float = 500.0,
    gamma_1: float = 1.0,
    gamma_2: float = 0.5,
) -> Tensor:
    """The margin loss of LiVO: be better than the reference on y_w and worse on y_l, and not more than by a margin.

        max(0, gamma_1 + beta (L_w - Lr_w)) + max(0, gamma_2 + alpha (Lr_l - L_l))

    The hinges are taken per pair; average the result over the batch. At theta = reference it is gamma_1 + gamma_2;
    past both margins (gamma_1 / beta and gamma_2 / alpha) it is 0.

    Returns:
        (N,) losses, >= 0.

    Source:
        Wang et al. 2024 (arXiv 2410.12700), Eq. 6 and Sec. 4.1 (defaults).

    Example:
        >>> import torch
        >>> same = torch.tensor([0.1])
        >>> livo_loss(same, same, same, same)
        tensor([1.5000])
    """
    return relu(gamma_1 + beta * (mse_w - ref_mse_w)) + relu(gamma_2 + alpha * (ref_mse_l - mse_l))
