from __future__ import annotations

import math
import random

import pytest
import torch

from train.preference.losses import dpo_d_loss, dpo_loss, livo_loss


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
    swapped = livo_loss(tensor(0.1015), tensor(0.1), tensor(0.0985), tensor(0.1))
    assert swapped.item() == pytest.approx(2.5 + 1.25)


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


# --- DPO and DPO-d ----------------------------------------------------------------------------------------------------

DPO = pytest.mark.parametrize("loss", [dpo_loss, dpo_d_loss])


def random_errors(count: int = 200, spread: float = 0.002) -> list[list[float]]:
    """Rows of mse_w, ref_mse_w, mse_l, ref_mse_l."""
    rng = random.Random(1)
    return [[0.1 + rng.uniform(-spread, spread) for _ in range(4)] for _ in range(count)]


def diffusion_dpo(lw: float, rw: float, ll: float, rl: float, beta_dpo: float) -> float:
    """Parity check P1: Diffusion-DPO's loss for one pair in plain Python, which halves its constant."""
    model_diff, ref_diff = lw - ll, rw - rl
    inside = -0.5 * beta_dpo * (model_diff - ref_diff)
    return -math.log(1 / (1 + math.exp(-inside)))


@DPO
def test_at_the_reference_dpo_is_log_2(loss):
    same = torch.rand(7, dtype=torch.float64)
    assert loss(same, same, same, same).tolist() == pytest.approx([math.log(2)] * 7, abs=1e-15)


@pytest.mark.parametrize("beta", [1000.0, 2.5])
def test_dpo_is_diffusion_dpo_with_twice_the_constant(beta):
    rows = random_errors()
    found = dpo_loss(*(tensor(*column) for column in zip(*rows, strict=True)), beta=beta)
    assert found.shape == (200,)
    assert found.tolist() == pytest.approx([diffusion_dpo(*row, beta_dpo=2 * beta) for row in rows], rel=1e-9)
    assert found.tolist() != pytest.approx([diffusion_dpo(*row, beta_dpo=beta) for row in rows], rel=1e-9)


def test_dpo_d_has_a_constant_a_side_and_is_dpo_where_they_are_equal():
    rows = random_errors()
    columns = [tensor(*column) for column in zip(*rows, strict=True)]
    by_hand = [math.log1p(math.exp(1000 * (lw - rw) - 500 * (ll - rl))) for lw, rw, ll, rl in rows]
    assert dpo_d_loss(*columns).tolist() == pytest.approx(by_hand, rel=1e-9)
    assert torch.allclose(dpo_d_loss(*columns, beta=300.0, alpha=300.0), dpo_loss(*columns, beta=300.0))
    assert not torch.allclose(dpo_d_loss(*columns), dpo_loss(*columns))


@DPO
@pytest.mark.parametrize(("argument", "direction"), [(0, 1), (1, -1), (2, -1), (3, 1)])
def test_dpo_rises_and_falls_with_each_error(loss, argument, direction):
    columns = [torch.full((21,), 0.1, dtype=torch.float64) for _ in range(4)]
    columns[argument] = torch.linspace(0.09, 0.11, 21, dtype=torch.float64)
    assert (direction * loss(*columns).diff() > 0).all()


@pytest.mark.parametrize(("loss", "pulls"), [(dpo_loss, (500.0, -500.0)), (dpo_d_loss, (500.0, -250.0))])
def test_gradients_of_dpo_push_the_chosen_down_and_the_rejected_up_without_end(loss, pulls):
    mse_w, mse_l = tensor(0.1, 0.097).requires_grad_(), tensor(0.1, 0.103).requires_grad_()
    loss(mse_w, tensor(0.1, 0.1), mse_l, tensor(0.1, 0.1)).sum().backward()
    assert (mse_w.grad[0].item(), mse_l.grad[0].item()) == pytest.approx(pulls)
    assert mse_w.grad[1] > 0 > mse_l.grad[1], "past LiVO's margins it still pulls"
    assert abs(mse_w.grad[1]) < abs(mse_w.grad[0]), "but less"


def test_dpo_lets_both_sides_get_worse_together_and_livo_does_not():
    ref, worse = tensor(0.1), tensor(0.15)
    assert dpo_loss(worse, ref, worse, ref).item() == pytest.approx(math.log(2))
    assert livo_loss(worse, ref, worse, ref).item() > livo_loss(ref, ref, ref, ref).item()


@DPO
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_errors_give_finite_losses_and_gradients(loss, dtype):
    values = [0.0, 1e-30, 1e-3, 1.0, 1e6, 1e12]
    grid = torch.cartesian_prod(*[torch.tensor(values, dtype=dtype)] * 4)
    errors = [column.clone().requires_grad_() for column in grid.T]
    found = loss(*errors)
    found.sum().backward()
    assert found.isfinite().all() and (found >= 0).all() and found.max() > 1e14
    assert all(column.grad.isfinite().all() for column in errors)


@DPO
def test_dpo_does_not_mix_pairs_up(loss):
    columns = torch.tensor(random_errors(9), dtype=torch.float64).T
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loss(*columns)[order], loss(*columns[:, order]))
