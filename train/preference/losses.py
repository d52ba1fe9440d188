"""Preference losses, pure functions of four denoising errors.

Notation: `_w` the chosen (winning) image y_w, `_l` the rejected (losing) image y_l, `ref_` the frozen model without a
value token. Each error is the mean of (predicted noise - noise)^2 over C, h, w; tensors of shape (N,), >= 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, relu, softplus


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


def livo_loss_without_margin(
    mse_w: Tensor, ref_mse_w: Tensor, mse_l: Tensor, ref_mse_l: Tensor, *, beta: float = 1000.0, alpha: float = 500.0
) -> Tensor:
    """LiVO's ablation "w/o m": the two terms of `livo_loss` without hinges; nothing bounds the second from below.

        beta (L_w - Lr_w) + alpha (Lr_l - L_l)

    At theta = reference it is 0. Average the result over the batch.

    Returns:
        (N,) losses, of either sign.

    Source:
        Wang et al. 2024 (arXiv 2410.12700), Eq. 10.

    Example:
        >>> import torch
        >>> better, worse, ref = torch.tensor([0.09]), torch.tensor([0.12]), torch.tensor([0.1])
        >>> livo_loss_without_margin(better, ref, worse, ref)
        tensor([-20.0000])
    """
    return beta * (mse_w - ref_mse_w) + alpha * (ref_mse_l - mse_l)


def dpo_loss(mse_w: Tensor, ref_mse_w: Tensor, mse_l: Tensor, ref_mse_l: Tensor, *, beta: float = 1000.0) -> Tensor:
    """Direct preference optimisation: gain more over the reference on y_w than on y_l, and ever more so.

        -log sigmoid(-beta [(L_w - Lr_w) - (L_l - Lr_l)])

    Only the difference of the two gains counts and nothing bounds it: both errors may rise together without end. At
    theta = reference it is log 2. Average the result over the batch.

    Returns:
        (N,) losses, >= 0; finite wherever the errors are.

    Source:
        Wang et al. 2024 (arXiv 2410.12700), Eq. 4 with the log-probabilities of Eq. 7 and 8. Diffusion-DPO (Wallace et
        al. 2023, arXiv 2311.12908) halves its constant: its beta of 2000 is 1000 here. The paper gives no value;
        LiVO's is taken, as it says that all methods share one configuration.

    Example:
        >>> import torch
        >>> same = torch.tensor([0.1])
        >>> dpo_loss(same, same, same, same)
        tensor([0.6931])
    """
    return softplus(beta * ((mse_w - ref_mse_w) - (mse_l - ref_mse_l)))


def dpo_d_loss(
    mse_w: Tensor, ref_mse_w: Tensor, mse_l: Tensor, ref_mse_l: Tensor, *, beta: float = 1000.0, alpha: float = 500.0
) -> Tensor:
    """DPO-d: `dpo_loss` with a constant for each side, as `livo_loss` has them; without its margins.

        -log sigmoid(-[beta (L_w - Lr_w) - alpha (L_l - Lr_l)])

    At theta = reference it is log 2; with alpha = beta it is `dpo_loss`. Average the result over the batch.

    Returns:
        (N,) losses, >= 0; finite wherever the errors are.

    Source:
        Wang et al. 2024 (arXiv 2410.12700), its DPO-d; the constants are LiVO's, as for `dpo_loss`.

    Example:
        >>> import torch
        >>> better, worse, ref = torch.tensor([0.099]), torch.tensor([0.101]), torch.tensor([0.1])
        >>> dpo_d_loss(better, ref, worse, ref)
        tensor([0.2014])
    """
    return softplus(beta * (mse_w - ref_mse_w) - alpha * (mse_l - ref_mse_l))


def mapo_loss(
    mse_w: Tensor, ref_mse_w: Tensor, mse_l: Tensor, ref_mse_l: Tensor, *, beta: float = 0.1, snr: float = 0.5
) -> Tensor:
    """MaPO, the rival that needs no reference: learn y_w, and keep its likelihood's ratio to that of y_l growing.

        L_w - beta log sigmoid(1000 [phi(L_w) - phi(L_l)]),  phi(x) = snr x / (exp(snr x) - 1)

    1000 is the number of training timesteps. `ref_mse_w` and `ref_mse_l` are not read. Average over the batch.

    Returns:
        (N,) losses, >= 0.

    Source:
        Hong et al. 2024 (arXiv 2406.06424), with the constants of its release.

    Example:
        >>> import torch
        >>> same = torch.tensor([0.1])
        >>> mapo_loss(same, same, same, same)
        tensor([0.1693])
    """

    def phi(mse: Tensor) -> Tensor:
        return snr * mse / torch.expm1(snr * mse)

    return mse_w + beta * softplus(-1000 * (phi(mse_w) - phi(mse_l)))


def dapt_loss(mse_w: Tensor, ref_mse_w: Tensor, mse_l: Tensor, ref_mse_l: Tensor) -> Tensor:
    """Domain-adaptive pretraining: the ordinary denoising error on y_w; nothing else is read.

    Returns:
        (N,) losses, >= 0.

    Source:
        Ho et al. 2020 (arXiv 2006.11239), Eq. 14, on preferred images (Wang et al. 2024, Sec. 4.1).
    """
    return mse_w


def neutral_loss(
    mse_w: Tensor, ref_mse_w: Tensor, mse_l: Tensor, ref_mse_l: Tensor, *, beta: float = 1000.0, alpha: float = 500.0
) -> Tensor:
    """What a text that is no principle of the pair is taught: to change nothing, on either picture.

        huber(beta (L_w - Lr_w)) + huber(alpha (L_l - Lr_l)),  huber(x) = x^2 / 2, |x| - 1/2 beyond 1

    As steep as `livo_loss` beyond a thousandth, and flat where nothing has moved.

    Returns:
        (N,) losses, >= 0.

    Example:
        >>> import torch
        >>> same, worse = torch.tensor([0.1]), torch.tensor([0.102])
        >>> neutral_loss(same, same, same, same), neutral_loss(worse, same, same, same)
        (tensor([0.]), tensor([1.5000]))
    """
    gaps = beta * (mse_w - ref_mse_w), alpha * (mse_l - ref_mse_l)
    moved_w, moved_l = (huber_loss(gap, torch.zeros_like(gap), reduction="none") for gap in gaps)
    return moved_w + moved_l


PreferenceLoss = Callable[..., Tensor]
"""A function of this file: four (N,) errors, and constants by keyword -> (N,) losses."""

LOSSES: dict[str, PreferenceLoss] = {
    "livo": livo_loss,
    "without-margin": livo_loss_without_margin,
    "dpo": dpo_loss,
    "dpo-d": dpo_d_loss,
    "mapo": mapo_loss,
    "dapt": dapt_loss,
}
"""What `python -m train.value_encoder --loss` takes."""
