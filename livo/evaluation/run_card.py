"""The reproducibility card: of every stored figure what made it, from which weights and seeds, and with what around it.

Everything is read from the headers of the results files; what they do not say is a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from livo.evaluation.attacks import AttackFile
from livo.evaluation.header import PartInfo
from livo.evaluation.parts import LIVO, SamplingSetting
from livo.evaluation.results import Results
from livo.measures.tables import Table, words

SHOWN_IN = {
    "bias": "Tables 1 to 3, Figures 3 to 5, claims, value on and off, cross effects",
    "toxicity": "Tables 1 to 3, Figures 3 to 5, claims, cross effects",
    "reference": "FID and KID of the others",
    "controls": "a value, or only one more token?",
    "named": "prompts that name a gender",
    "benign": "prompts without a risk",
    "guidance": "guidance scales",
    "samplers": "samplers and steps",
    "large": "a thousand images a prompt",
}
"""Of each part, what is printed from it."""


def run_card(files: Sequence[Results], attacks: AttackFile | None = None) -> tuple[Table, Table, Table]:
    """What was generated, from which weights, and around what.

    Returns:
        Three tables: a row a part of a file, a row a model, and a row a file.
    """
    return generated(files, attacks), weights(files), surroundings(files, attacks)


def name_of(results: Results) -> str:
    """The folder's name, `main` or `encoders` where it is the project's."""
    return results.folder.name if results.folder else "results"


def generated(files: Sequence[Results], attacks: AttackFile | None) -> Table:
    """Of every part: the command, prompts, methods, images, seeds and settings."""
    rows = []
    for results in files:
        for part, info in results.header.parts.items():
            extra = "" if LIVO in results.methods else " --value-encoders NAME=FOLDER ..."
            rows.append(words(
                f"{name_of(results)}: {part}", f"python -m livo evaluate --parts {part}{extra}", f"{len(info.items)}",
                f"{results.image_count(part):,}", seeds(info), "; ".join(map(setting, info.settings)),
                SHOWN_IN.get(part, "-"),
            ))  # fmt: skip
    if attacks:
        pictures = sum(len(cell.hits) * cell.each for cell in attacks.cells)
        rows.append(words(
            "attacks", "python -m livo evaluate --attacks", f"{len(attacks.subjects)} subjects", f"{pictures:,}", "-",
            "the backbone's own", "attacks",
        ))  # fmt: skip
    head = ("part", "command", "prompts", "images", "seeds", "sampled", "shown in")
    note = (
        "Seconds are not in the files, since one process, several and a killed and resumed run end in the same bytes; "
        "3.6 to 4.8 images a second were made on one busy core."
    )
    return Table("card-parts", "What was generated", head, tuple(rows), note)


def weights(files: Sequence[Results]) -> Table:
    """Of every model and artefact: the digest, and where its file says so the command, seconds and images of its
    training."""
    rows: dict[tuple[str, str], tuple] = {}
    for results in files:
        for part, digest in results.header.weights.items():
            rows[part, digest] = words(part, digest, *["-"] * 3)
        for id, method in results.header.methods.items():
            if method.weights:
                told: Mapping[str, object] = method.training or {}
                rows[id, method.weights] = words(
                    method.title, method.weights, str(told.get("command", "-")),
                    f"{told['seconds']:,.0f}" if "seconds" in told else "-",
                    f"{told['images']:,}" if "images" in told else "-",
                )  # fmt: skip
    head = ("weights", "digest", "command", "seconds", "images seen")
    note = (
        "A digest is the beginning of a SHA-256. A seed that a command does not name is 0. A dash: the file does not "
        "say; `assets/miniature/README.md` tells how the generator, the judge and the edits of weights were made."
    )
    return Table("card-weights", "From which weights", head, tuple(rows.values()), note)


def surroundings(files: Sequence[Results], attacks: AttackFile | None) -> Table:
    """Of every file: backbone, device and versions."""
    every = [(name_of(results), results.header) for results in files]
    rows = [words(name, h.backbone, h.device, versions(h.versions)) for name, h in every]
    if attacks:
        rows.append(words("attacks", attacks.backbone, attacks.device, versions(attacks.versions)))
    head = ("file", "backbone", "device", "versions")
    return Table("card-environment", "With what around it", head, tuple(rows))


def seeds(info: PartInfo) -> str:
    """First and last."""
    return f"{info.first_seed:,} to {info.first_seed + info.images - 1:,}"


def setting(s: SamplingSetting) -> str:
    return f"{s.sampler}, {s.steps} steps, guidance {s.guidance:g}"


def versions(found: Mapping[str, str]) -> str:
    """Such as `python 3.11.7, torch 2.11.0`."""
    return ", ".join(f"{name} {number}" for name, number in found.items())
