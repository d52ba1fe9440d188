"""GPUs that are lent for a call (ZeroGPU on Hugging Face Spaces), and what GPUs go wrong with, in people's words.

Everywhere else `lend` hands a function back as it is, and `spaces` is never imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)

TFLOPS = 60.0
"""10^12 operations a second that are counted on: about a seventh of what half of an H200 does at best in float16."""
START, A_DECODED_IMAGE = 5.0, 0.1
"""Seconds until a lent GPU works, and to decode and judge one image."""
LEAST, MOST = 10, 120
SIGN_IN = "sign in on huggingface.co and open the Space there, not on its own hf.space address"


def zero_gpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether GPUs are lent here."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def prepare() -> None:
    """Lets `spaces` put itself between torch and a GPU that is not there yet; it refuses once diffusers is imported."""
    if zero_gpu():
        import spaces  # noqa: F401


def lend(function: Function, duration: Callable[..., int]) -> Function:
    """The function, with a GPU for as long as `duration` of the same arguments says, in seconds.

    On ZeroGPU its arguments and what it yields travel between processes, so both must be picklable.
    """
    if not zero_gpu():
        return function
    import spaces

    return spaces.GPU(function, duration=duration)


def seconds_needed(tflop: float, images: int) -> int:
    """How long to ask for a GPU: the less, the sooner one gets it; what runs longer is stopped.

    Args:
        tflop: 10^12 operations of all U-Net rows.
        images: to decode and judge.

    Example:
        >>> seconds_needed(0.1, 2), seconds_needed(5 * 8 * 40.0, 40), seconds_needed(1e6, 1)
        (10, 35, 120)
    """
    return int(min(MOST, max(LEAST, START + tflop / TFLOPS + A_DECODED_IMAGE * images)))


def explain(error: Exception) -> str | None:
    """What a GPU's failure means and what can be done; None where the failure is not a GPU's.

    ZeroGPU raises Gradio errors whose titles begin with its name; torch raises its own.
    """
    title, text = str(getattr(error, "title", "")), str(error)
    if title.startswith("ZeroGPU"):
        if "quota" in title or "credits" in title:
            return f"your free GPU time is used up for now. {_first_sentences(text)} For more, {SIGN_IN}."
        if "duration" in title:
            return "this asks for more GPU time than one call may take: give fewer images, methods or steps."
        if "timeout" in title:
            return "no GPU became free in time: try again later."
        return "the lent GPU failed: try again, with fewer images if it fails again."
    if type(error).__name__ == "OutOfMemoryError":
        return "the GPU has no memory left for this: give fewer images or methods."
    if "CUDA error" in text or "No CUDA GPUs are available" in text or "NVIDIA driver" in text:
        return "the GPU does not answer: try again, or restart the program."
    return None


def _first_sentences(text: str, most: int = 160) -> str:
    """The plain beginning of a message: no markup, no links."""
    plain = text.split("<")[0].split("http")[0].strip().strip("'\"")
    if len(plain) > most:
        return plain[:most].rsplit(" ", 1)[0] + "…"
    return plain if plain.endswith((".", "!", "?")) or not plain else f"{plain}."
