"""How large a request may be, and what is done before anybody asks."""

from __future__ import annotations

import dataclasses

import pytest

from baselines import available
from livo.compare.comparison import make_request
from livo.types import InputError, SamplingOptions
from livo.ui.access import STAND_INS, Access
from livo.ui.serving import serve, size_of
from livo.ui.turn import PACE, Turn
from livo.ui.warming import warm_up
from livo.ui.workbench import Workbench, load_workbench

METHODS = tuple(available())


@pytest.fixture(scope="module")
def drawn() -> Workbench:
    return load_workbench("miniature", "cpu")


@pytest.mark.parametrize(
    ("methods", "images", "side", "size"), [(1, 8, 64, 96), (3, 50, 64, 1_800), (2, 8, 128, 768), (2, 8, 32, 192)]
)
def test_a_requests_size_counts_methods_pictures_steps_and_pixels(drawn, methods, images, side, size):
    options = SamplingOptions(tuple(range(images)), 12, 2.0, side, side)
    assert size_of(make_request("a photo of a doctor", METHODS[:methods], options), drawn.defaults) == size


def test_a_request_is_as_large_as_one_that_a_page_makes_and_smaller_beside_others(drawn):
    bench = dataclasses.replace(drawn, access=Access(public=True, stand_ins=STAND_INS), turn=Turn())

    def ask(methods: int, images: int, who: str):
        options = SamplingOptions(tuple(range(images)), 50, 2.0, 64, 64)
        serve(bench, make_request("a photo of a doctor", METHODS[:methods], options), who).close()

    with pytest.raises(InputError, match="3 methods x 50 images x 50 steps are 7,500; one request may be 5,000: ask"):
        ask(3, 50, "a")
    ask(2, 50, "a")  # alone
    with pytest.raises(InputError, match="5,000; one request may be 1,200 while others are here too"):
        ask(2, 50, "b")
    ask(2, 12, "b")


def test_the_first_comparison_is_made_before_anybody_asks(drawn, count_rows):
    rows = count_rows(drawn.engine.backbone.unet)
    bench = dataclasses.replace(drawn, access=Access(public=True), turn=Turn())
    warm_up(dataclasses.replace(bench, access=Access()))
    warm_up(dataclasses.replace(bench, generate=lambda *_: pytest.fail("a lent GPU costs its minutes")))
    assert not rows and bench.turn.shares.seconds(1) == PACE
    warm_up(bench)
    assert rows and bench.turn.shares.seconds(1) != PACE
