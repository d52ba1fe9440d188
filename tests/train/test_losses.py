from __future__ import annotations

import random

import pytest
import torch

from train.losses import livo_loss


def equation_6(lw: float, rw: float, ll: float, rl: float, beta=1000.0, alpha=500.0, g1=1.0, g2=0.5) -> float:
    """Eq. 6 for one pair, in plain Python."""
    return max(0.0, g1 + beta * (lw - rw)) + max(0.0, g2 + alpha * (rl - ll))


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_at_the_reference_it_is_the_two_margins():
    same = torch.rand(7, dtype=torch.float64)
    assert torch.equal(livo_loss(same, same, same, same), torch.full((7,), 1.5, dtype=torch.float64))
    assert livo_loss(same, same, same, same, gamma_1=0.25, gamma_2=2.0)[0] == 2.25


def test_past_both_margins_it_is_zero():
    """Parity check L2: (0.1, 0.1) -> winner 0.0985, loser 0.1015."""
    assert livo_loss(tensor(0.0985), tensor(0.1), tensor(0.1015), tensor(0.1)).tolist() == [0.0]
    assert livo_loss(tensor(0.1015), tensor(0.1), tensor(0.0985), tensor(0.1)).item() == pytest.approx(2.5 + 1.25), "swapped"


@pytest.mark.parametrize("constants", [{}, {"beta": 3.0, "alpha": 7.0, "gamma_1": 0.2, "gamma_2": 0.9}])
def test_it_is_equation_6_on_random_errors(constants):
    rng = random.Random(0)
    rows = [[0.1 + rng.uniform(-0.002, 0.002) for _ in range(4)] for _ in range(200)]
    short = {"beta": "beta", "alpha": "alpha", "gamma_1": "g1", "gamma_2": "g2"}
    wanted = [equation_6(*row, **{short[key]: value for key, value in constants.items()}) for row in rows]
    found = livo_loss(*(tensor(*column) for column in zip(*rows, strict=True)), **constants)
    assert found.tolist() == wanted
    assert constants or (any(w == 0 for w in wanted) and any(w > 1.5 for w in wanted)), "both sides of the hinges"


def test_gradients_push_the_chosen_down_the_rejected_up_and_stop_at_the_margins():
    mse_w = tensor(0.1, 0.0985, 0.1).requires_grad_()
    mse_l = tensor(0.1, 0.1, 0.1015).requires_grad_()
    ref = tensor(0.1, 0.1, 0.1)
    livo_loss(mse_w, ref, mse_l, ref).sum().backward()
    assert mse_w.grad.tolist() == [1000.0, 0.0, 1000.0]
    assert mse_l.grad.tolist() == [-500.0, -500.0, 0.0]


def test_the_hinge_is_taken_per_pair():
    """A pair far past its margins pays nothing for one that is not."""
    mse_w, ref = tensor(0.05, 0.102), tensor(0.1, 0.1)
    loss = livo_loss(mse_w, ref, tensor(0.2, 0.2), ref)
    assert loss.tolist() == pytest.approx([0.0, 3.0]) and loss.shape == (2,)
    of_the_means = livo_loss(mse_w.mean()[None], ref.mean()[None], tensor(0.2), tensor(0.1))
    assert of_the_means.item() == 0.0 != loss.mean().item()


def test_it_does_not_mix_pairs_up():
    columns = 0.1 + 0.003 * torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(livo_loss(*columns)[order], livo_loss(*columns[:, order]))
