"""The denoiser's running average."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel

from train.miniature.denoiser import follow


def test_the_first_step_does_not_stay_in_the_average() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100.0)
    average = AveragedModel(model, multi_avg_fn=follow)
    average.update_parameters(model)
    nn.init.constant_(model.weight, 1.0)
    for _ in range(200):
        average.update_parameters(model)
    assert abs(average.module.weight.item() - 1) < 1e-3  # 0.999^200 of 99 would leave 81
