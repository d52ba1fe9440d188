"""What Gradio remembers of a browser tab, without what this page needs none of.

For every new tab Gradio writes out the whole page's configuration, tens of milliseconds in which nobody else is
answered, and keeps it with the last pictures, so that a link could restore them. Links of this page hold the request
itself, and Gradio's are closed.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gradio.state_holder import SessionState


def keep_little() -> None:
    """For this process, before a page is launched."""
    begin = SessionState.__init__

    def begin_small(state: SessionState, blocks: Any) -> None:
        begin(state, SimpleNamespace(default_config=blocks.default_config, blocks={}))

    def nothing(state: SessionState, *_: object) -> None:
        return None

    SessionState.__init__ = begin_small
    SessionState._update_config = SessionState._update_value_in_config = nothing
