"""What `python -m livo evaluate` prints of results: tables, figures and claims, as Markdown and files; the README's."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from livo.evaluation.attacks import attack_tables, read_attacks
from livo.evaluation.cases import describe, figure_5
from livo.evaluation.charts import chart_svg
from livo.evaluation.claims import check_claims, claims_table
from livo.evaluation.controls import control_tables
from livo.evaluation.figures import Chart, figure_3a, figure_3b, figure_3c, figure_4
from livo.evaluation.parts import LIVO
from livo.evaluation.results import Results, read_all
from livo.evaluation.run_card import run_card
from livo.evaluation.tables import find_encoders, find_main, table_1, table_2, table_3
from livo.evaluation.training_tables import margins_table, trainings_table
from livo.evaluation.trainings import Trainings
from livo.measures.tables import Table
from livo.miniature.world import load_world
from livo.principles import ASSETS
from livo.runs import write_whole
from livo.types import InputError

COMMITTED = ASSETS / "results"


def answer(args: argparse.Namespace) -> str:
    """Markdown of what was asked for; with `--save`, CSV, SVG and PNG in that folder as well.

    Raises:
        InputError: results are missing, or hold too little; the README has no markers.
    """
    if args.report == "attacks":
        return save_and_show(attack_tables(read_attacks((args.results or [COMMITTED])[0])), args.save)
    if args.report == "margins":
        validation = read_all(args.results or [COMMITTED / "validation"])[0]
        return save_and_show([margins_table(validation)], args.save)
    files = read_all(args.results or [COMMITTED])
    if args.report == "controls" and not any(LIVO in results.methods for results in files):
        return save_and_show([table for results in files for table in control_tables(results)], args.save)
    if args.readme:
        return update_readme(args.readme, files)
    if args.check:
        return check(files)
    if args.figure == "5":
        return cases(find_main(files), args.save)
    what = next(f"{kind} {value}" for kind in ("table", "figure", "report") if (value := getattr(args, kind)))
    return save_and_show(asked(files, what), args.save)


def save_and_show(parts: Sequence[Table | Chart], save: Path | None) -> str:
    """The parts as Markdown; as files too where `save` names a folder."""
    if save:
        for part in parts:
            table = as_table(part)
            write_whole(save / f"{table.name}.csv", table.csv().encode())
            write_whole(save / f"{table.name}.md", (table.markdown() + "\n").encode())
            if isinstance(part, Chart):
                write_whole(save / f"{part.name}.svg", chart_svg(part).encode())
    return markdown(parts)


def asked(files: Sequence[Results], what: str) -> list[Table | Chart]:
    """The tables and charts of a name: `table 2`, `figure 3b`, `report claims`, or `control tokens` for one table.

    Raises:
        InputError: there is no such thing, or the results hold too little.
    """
    main, encoders = find_main(files), find_encoders(files)
    encoders = encoders and encoders.only(main)
    makers: dict[str, Callable[[], Sequence[Table | Chart]]] = {
        "table 1": lambda: [table_1(main, load_world())],
        "table 2": lambda: table_2(main),
        "table 3": lambda: [table_3(main, encoders)],
        "figure 3a": lambda: figure_3a(main, encoders),
        "figure 3b": lambda: [figure_3b(main, encoders)],
        "figure 3c": lambda: [figure_3c(main, encoders)],
        "figure 4": lambda: figure_4(encoders),
        "report claims": lambda: [claims_table(check_claims(main, encoders), Trainings(main, encoders).note())],
        "report controls": lambda: control_tables(main),
        "report trainings": lambda: [trainings_table(main, encoders)] if encoders else [],
        "report attacks": lambda: attack_tables(read_attacks(COMMITTED)),
        "report card": lambda: run_card(files, read_attacks(COMMITTED)),
    }
    if what in makers:
        return list(makers[what]())
    kind, _, name = what.partition(" ")
    if kind != "control":
        raise InputError(f"there is nothing called {what!r}: give {', '.join(makers)}, or such as 'control tokens'")
    tables = {table.name: table for table in control_tables(main)}
    if name not in tables:
        raise InputError(f"the results hold no controls called {name!r}; there are: {', '.join(tables)}")
    return [tables[name]]


def as_table(part: Table | Chart) -> Table:
    """A chart's points, or the table itself."""
    return part.table() if isinstance(part, Chart) else part


def markdown(parts: Sequence[Table | Chart]) -> str:
    """One under the other."""
    return "\n\n".join(as_table(part).markdown() for part in parts)


def cases(results: Results, save: Path | None) -> str:
    """Figure 5."""
    text = describe(results)
    if save:
        write_whole(save / "figure-5.png", png(figure_5(results)))
        write_whole(save / "figure-5.md", f"{text}\n\n![Case study](figure-5.png)\n".encode())
    return text


# --- are the stored figures those of the stored results? --------------------------------------------------------------


DRAWN = ("figure 3a", "figure 3b", "figure 3c", "figure 4")


def check(files: Sequence[Results], folder: Path = COMMITTED) -> str:
    """Makes every table and figure beside the results again, and says that nothing differs.

    Args:
        folder: with a README.md between whose markers tables stand, and charts and the case study under figures/.

    Raises:
        InputError: something differs; names each part, and its first line that does.
    """
    text = (folder / "README.md").read_text(encoding="utf-8")
    differ, same = [], 0
    for match in MARKER.finditer(text):
        wanted, found = filled(match, files), match[0]
        if wanted == found:
            same += 1
            continue
        lines = zip_longest(found.splitlines(), wanted.splitlines(), fillvalue="(nothing)")
        old, new = next((a, b) for a, b in lines if a != b)
        differ.append(f"{match['what']}: the README has {old!r}, the results give {new!r}")
    charts = [part for what in DRAWN for part in asked(files, what) if isinstance(part, Chart)]
    made = {f"{chart.name}.svg": chart_svg(chart).encode() for chart in charts}
    for name, wanted_bytes in (made | {"figure-5.png": png(figure_5(find_main(files)))}).items():
        path = folder / "figures" / name
        if path.is_file() and path.read_bytes() == wanted_bytes:
            same += 1
        else:
            differ.append(f"{path.name}: {'is another' if path.is_file() else 'is missing'}")
    if differ:
        raise InputError(f"{len(differ)} of {len(differ) + same} parts differ from the results: " + "; ".join(differ))
    return f"{same} parts, tables and figures, are those of the results"


def png(picture: Image.Image) -> bytes:
    """As it is stored."""
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return buffer.getvalue()


# --- the README ------------------------------------------------------------------------------------------------------


MARKER = re.compile(r"<!-- evaluate (?P<what>[\w -]+) -->\n.*?<!-- end -->", re.DOTALL)


def fill_markers(text: str, files: Sequence[Results]) -> str:
    """The text with everything between `<!-- evaluate WHAT -->` and `<!-- end -->` made anew; raises as `asked`."""
    return MARKER.sub(lambda match: filled(match, files), text)


def filled(match: re.Match[str], files: Sequence[Results]) -> str:
    """A pair of markers with what is to stand between them."""
    return f"<!-- evaluate {match['what']} -->\n{markdown(asked(files, match['what']))}\n<!-- end -->"


def update_readme(path: Path, files: Sequence[Results]) -> str:
    """Fills a file's markers, and says how many there were."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give the README") from error
    count = len(MARKER.findall(text))
    if not count:
        raise InputError(f"{path} has no markers such as <!-- evaluate table 2 --> ... <!-- end -->")
    write_whole(path, fill_markers(text, files).encode())
    return f"{count} parts of {path} are new"
