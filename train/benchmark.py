"""`python -m train.benchmark`: pairs a second of value-encoder training, with every saving and as the official trainer.

The ways are taken in turn within one run, on the same pairs, so that what slows the machine down slows all of them:

    official     pictures read and encoded, texts encoded, four U-Net calls
    kept         latents and prompt embeddings kept, both pictures in one U-Net call
    references   and the reference's errors kept, as from a row's second visit with the same draw
    active       and rows past their margin left out of the pass with gradients, found by looking first

The last depends on how many rows are past their margin: it is measured with the trained value encoder, at whose start
none is. FLOP of a pair are counted for Stable Diffusion 1.5 at 512 pixels, without weights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from baselines._benchmark.sides import sd15_networks
from livo.diffusion.backbones import Backbone, BackboneError, load_backbone, only_stable_diffusion
from livo.methods.value_encoder import ValueEncoder, ValueEncoderError, load_value_encoder
from livo.types import InputError
from train.preference.pairs import PreferenceSet
from train.preference.step import Activity, FastStep
from train.preference.trainer import MINIATURE, Training, deal
from train.value_encoder import drawn_data

WAYS: dict[str, dict[str, Any]] = {
    "official": {"official": True, "num_draws": 0},
    "kept": {"num_draws": 0},
    "references": {"num_draws": 1},
    "active": {"num_draws": 1},
}
"""Settings that differ from the miniature's, by way."""
RESET = Path("/proc/self/clear_refs")


class NeverLook(Activity):
    """In `Activity`'s place: every row takes the pass with gradients."""

    look_first = False


def prepare(backbone: Backbone, data: PreferenceSet, way: str, batch: int, work: Path) -> Training:
    """A training that stays where it is, at the backbone's own value encoder: its learning rate is 0."""
    config = replace(MINIATURE, batch_size=batch, learning_rate=0.0, schedule="constant", **WAYS[way])
    training = Training(backbone, data, config, work)
    trained = load_value_encoder(backbone.folder / "value_encoder", backbone)
    assert isinstance(trained, ValueEncoder), "`Training` refuses every other kind of backbone"
    training.encoder.model.load_state_dict(trained.model.state_dict())
    if way != "active" and isinstance(step := training._forward_backward, FastStep):
        step.activity = NeverLook()
    return training


def gradient(training: Training) -> Tensor:
    """All of E^v's gradients at step 0, in one row."""
    training.optimizer.zero_grad(set_to_none=True)
    training._prepare(0)
    training._forward_backward(*deal(0, training.config, len(training.data.rows)))
    return torch.cat([p.grad.flatten() for p in training.encoder.model.parameters() if p.grad is not None])


def measure(backbone: Backbone, data: PreferenceSet, batch: int, turns: int, work: Path) -> dict[str, Any]:
    """Pairs a second by way, and each way's speed over the official one's: median, lowest and highest turn.

    Returns:
        also "gradient", the largest difference to "kept"'s over its largest entry, and "active share".
    """
    ways = {way: prepare(backbone, data, way, batch, work) for way in WAYS}
    wanted = gradient(ways["kept"])
    ways["active"].activity.share = 0.0
    apart = {
        w: ((gradient(ways[w]) - wanted).abs().max() / wanted.abs().max()).item() for w in ("references", "active")
    }
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(turns + 2):
        for way, training in ways.items():
            start = time.perf_counter()
            training.step(turn)
            if turn > 1:  # two to warm up, and to learn whether looking first pays
                seconds[way].append(time.perf_counter() - start)
    times = {}
    for way, own in seconds.items():
        ratios = [official / mine for official, mine in zip(seconds["official"], own, strict=True)]
        times[way] = {"pairs/s": batch / statistics.median(own), "speed": statistics.median(ratios),
                      "lowest": min(ratios), "highest": max(ratios)}  # fmt: skip
    return {
        "ways": times,
        "gradient": apart,
        "active share": ways["active"].activity.share,
        "batch": batch,
        "turns": turns,
    }


def flop_of_sd15(active: float, pixels: int = 512) -> dict[str, float]:
    """TFLOP of one pair by way, on Stable Diffusion 1.5; E^v reads 77 tokens officially and 20 otherwise."""
    unet, vae, text_encoder = sd15_networks(torch.device("meta"))

    def count(work: Callable[[], object]) -> float:
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops() / 1e12

    def encoder(length: int) -> None:
        ids = torch.zeros(1, length, dtype=torch.long, device="meta")
        text_encoder.requires_grad_(True)
        text_encoder(ids).last_hidden_state.sum().backward()
        text_encoder.requires_grad_(False)

    side = pixels // 8
    token = torch.empty(1, 1, 768, device="meta", requires_grad=True)
    text = torch.empty(1, 77, 768, device="meta")
    latents = torch.empty(1, 4, side, side, device="meta")
    picture = torch.empty(1, 3, pixels, pixels, device="meta")
    forward = count(lambda: unet(latents, 1, text))
    forward_backward = count(lambda: unet(latents, 1, torch.cat([token, text], dim=1)).sample.sum().backward())
    encoding = count(lambda: vae.encoder(picture))
    prompt = count(lambda: text_encoder(torch.zeros(1, 77, dtype=torch.long, device="meta")))
    long, short = count(lambda: encoder(77)), count(lambda: encoder(20))
    return {
        "official": 2 * encoding + prompt + long + 2 * forward + 2 * forward_backward,
        "kept": short + 2 * forward + 2 * forward_backward,
        "references": short + 2 * forward_backward,
        "active": short + min(2 * forward_backward, 2 * forward + 2 * active * forward_backward),
    }


def peak_bytes(name: str, way: str, pairs: int, batch: int, work: Path) -> int | None:
    """What a fresh process that takes one way for three steps holds at most, over what it held with all loaded; None
    where nobody counts."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_three_steps, name, way, pairs, batch, work).result()


def _three_steps(name: str, way: str, pairs: int, batch: int, work: Path) -> int | None:
    backbone = load_backbone(name)
    on_gpu = backbone.device.type == "cuda"
    training = prepare(backbone, drawn_data(backbone, work, pairs, 0), way, batch, work)
    training._prepare(0)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    elif RESET.exists():
        RESET.write_text("5")  # Linux: the peak begins anew at what is held now
        before = _peak()
    for step in range(3):
        training.step(step)
    if on_gpu:
        return torch.cuda.max_memory_allocated() - before
    return _peak() - before if RESET.exists() else None


def _peak() -> int:
    """Bytes that this process held at most since the last reset, as Linux counts them."""
    status = Path("/proc/self/status").read_text()
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def lines(found: dict[str, Any]) -> str:
    """A Markdown table."""
    rows = ["| way | pairs/s | speed | TFLOP a pair, SD 1.5 | memory of a step |", "|---|---|---|---|---|"]
    for way, row in found["ways"].items():
        flop, memory = found["sd15 TFLOP"][way], found["memory"][way]
        rows.append(
            f"| {way} | {row['pairs/s']:.1f} | {row['speed']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f}) | "
            f"{flop:.2f} ({found['sd15 TFLOP']['official'] / flop:.2f} x) | "
            f"{'-' if memory is None else f'{memory / 2**20:,.0f} MiB'} |"
        )
    apart = max(found["gradient"].values())
    return "\n".join([
        *rows, "", f"{found['turns']} turns of {found['batch']} pairs, {found['active share']:.2f} of the rows active; "
        f"gradients agree within {apart:.1e} of the largest."])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m train.benchmark", description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="miniature", help="with an evaluator and a value encoder (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=MINIATURE.batch_size, help="pairs of a step (%(default)s)")
    parser.add_argument("--turns", type=int, default=12, help="steps of each way (%(default)s)")
    parser.add_argument("--pairs", type=int, default=256, help="to draw from (%(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/value_encoder"), help="of shares.json (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="on the CPU (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    try:
        if args.turns < 1:
            raise InputError(f"{args.turns} turns measure nothing: give 1 or more")
        backbone = only_stable_diffusion(load_backbone(args.backbone), "python -m train.benchmark")
        data = drawn_data(backbone, args.work, args.pairs, 0)
        with tempfile.TemporaryDirectory() as work:
            found = measure(backbone, data, args.batch_size, args.turns, Path(work))
            found["sd15 TFLOP"] = flop_of_sd15(found["active share"])
            found["memory"] = {
                way: peak_bytes(args.backbone, way, args.pairs, args.batch_size, args.work) for way in WAYS
            }
    except (InputError, BackboneError, ValueEncoderError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(json.dumps(found, indent=1) if args.json else lines(found))


if __name__ == "__main__":
    main()
