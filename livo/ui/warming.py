"""What is done once, done before anybody asks: operations are counted, and on a public page a comparison is made, so
that all it loads and compiles is there, and memory is what it will be."""

from __future__ import annotations

import logging
from contextlib import closing

from baselines import SHOWN_FIRST
from livo.compare.comparison import Comparison, make_request
from livo.types import SamplingOptions
from livo.ui.comparison_view import comparison_html, shown_of
from livo.ui.presets import PRESETS
from livo.ui.serving import on_this_machine, size_of
from livo.ui.stored import SEEDS
from livo.ui.workbench import Workbench

logger = logging.getLogger(__name__)


def warm_up(bench: Workbench) -> None:
    """Counts, and on a public page makes what it offers first, as nobody's; that gives way to smaller comparisons.

    A GPU that is lent is not asked: it would cost its minutes.
    """
    if bench.engine is None:
        return
    d = bench.defaults
    options = SamplingOptions(SEEDS, d.num_inference_steps, d.guidance_scale, d.height, d.width)
    bench.engine.row_flop(options)
    if bench.generate is not None or not bench.access.public:
        return
    methods = [id for id in bench.entries if id in SHOWN_FIRST]
    try:
        request = make_request(PRESETS["Career"][0], methods, options, vocabulary=bench.vocabulary, reads=bench.reads)
        with closing(bench.turn.hold(on_this_machine(bench)(request), "", size_of(request, d))) as work:
            for item in work:
                if isinstance(item, Comparison):
                    comparison_html(item.record(), shown_of(item, bench.entries), bench.swatches, guess=False)
    except Exception:  # whoever asks is told what is wrong
        logger.warning("the first comparison failed", exc_info=True)
