"""The public page under a few simulated visitors, for seconds; `python tests/visitors.py` does it with 50 for
minutes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
from visitors import LEFT, MESSAGE, NOTHING, PICTURE, growth, public_server, visit


def test_a_crowd_gets_pictures_or_messages_and_the_server_stays_up():
    with public_server() as (base, server), ThreadPoolExecutor(1) as pool:
        # In a thread: a browser test before this one leaves its event loop in the main thread.
        diary, memory = pool.submit(
            lambda: asyncio.run(visit(base, server.pid, visitors=30, seconds=12, think=0.3))
        ).result()
        assert server.poll() is None and httpx.get(base, timeout=60).status_code == 200
    outcomes = {outcome for _, outcome in diary.outcomes}
    assert diary.failures == [] and NOTHING not in outcomes and {PICTURE, MESSAGE, LEFT} <= outcomes
    assert diary.waits and len(memory) >= 3
    assert any("visitors are waiting already" in text for text in diary.messages), "the queue has an end, and says so"


def test_growth_leaves_the_start_out():
    memory = [(0, 100.0), (10, 400.0), (25, 500.0), (50, 505.0), (85, 510.0), (99, 510.0)]
    before, after, percent = growth(memory, 100)
    assert (before, after) == (500.0, 510.0) and abs(percent - 2) < 1e-9
