"""Files from the Hugging Face hub: downloaded once, and taken from the cache where the hub cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 5.0
"""Seconds for the hub to answer at all: its own client tries each file six times, minutes where there is no network."""


class HubError(RuntimeError):
    """Files are neither in the cache nor to be had; the message says why."""


def is_hub_id(name: str) -> bool:
    """Whether a name can be a hub id, `owner/name` or `owner/name@revision`, and no path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def reachable() -> bool:
    """Whether the hub answers."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=PATIENCE)
    except (httpx.HTTPError, OSError):
        return False
    return True


def fetch(name: str, wanted: Sequence[str] | Callable[[Sequence[str]], Sequence[str]]) -> Path:
    """The folder with some files of a repository.

    Args:
        name: `owner/name`, or `owner/name@revision`, a branch or a commit.
        wanted: patterns of file names; or what chooses among the repository's names. Where the hub cannot be reached
            nothing is chosen: what lies in the cache is taken.

    Raises:
        HubError: there is no such repository or revision, or no network and nothing in the cache.
    """
    import httpx  # here and in `reachable`: most runs never ask the hub, and these take half a second to import
    from huggingface_hub import list_repo_files, snapshot_download

    hub_id, _, revision = name.partition("@")
    offline = not reachable()
    try:
        if callable(wanted):
            wanted = [] if offline else wanted(list_repo_files(hub_id, revision=revision or None))
        patterns = list(wanted) or None
        return Path(
            snapshot_download(hub_id, revision=revision or None, allow_patterns=patterns, local_files_only=offline)
        )
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        reason = (
            "the hub cannot be reached, and nothing of it is in the cache"
            if offline
            else (str(error).strip().splitlines() or [type(error).__name__])[0]
        )
        raise HubError(f"{name}: {reason}") from error
