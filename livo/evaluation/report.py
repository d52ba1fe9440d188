"""What `python -m livo evaluate` prints of results: tables, figures and claims, as Markdown and files; the README's."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from livo.evaluation.cases import describe, figure_5
from livo.evaluation.charts import chart_svg
from livo.evaluation.claims import check_claims, claims_table
from livo.evaluation.command import FIGURES, REPORTS, TABLES
from livo.evaluation.controls import control_tables
from livo.evaluation.figures import Chart, figure_3a, figure_3b, figure_3c, figure_4
from livo.evaluation.results import Results, read_all
from livo.evaluation.tables import find_encoders, find_main, table_1, table_2, table_3
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
    files = read_all(args.results or [COMMITTED])
    if args.readme:
        return update_readme(args.readme, files)
    if args.figure == "5":
        return cases(find_main(files), args.save)
    parts = asked(files, args)
    if args.save:
        for part in parts:
            table = part.table() if isinstance(part, Chart) else part
            write_whole(args.save / f"{table.name}.csv", table.csv().encode())
            write_whole(args.save / f"{table.name}.md", (table.markdown() + "\n").encode())
            if isinstance(part, Chart):
                write_whole(args.save / f"{part.name}.svg", chart_svg(part).encode())
    return "\n\n".join((part.table() if isinstance(part, Chart) else part).markdown() for part in parts)


def asked(files: Sequence[Results], args: argparse.Namespace) -> list[Table | Chart]:
    """The tables and charts that the arguments name; raises as `answer`."""
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
        "report claims": lambda: [claims_table(check_claims(main, encoders))],
        "report controls": lambda: control_tables(main),
    }
    name = next(f"{kind} {value}" for kind in ("table", "figure", "report") if (value := getattr(args, kind)))
    return list(makers[name]())


def cases(results: Results, save: Path | None) -> str:
    """Figure 5."""
    text = describe(results)
    if save:
        buffer = io.BytesIO()
        figure_5(results).save(buffer, "png", optimize=True)
        write_whole(save / "figure-5.png", buffer.getvalue())
        write_whole(save / "figure-5.md", f"{text}\n\n![Case study](figure-5.png)\n".encode())
    return text


# --- the README ------------------------------------------------------------------------------------------------------


MARKER = re.compile(r"<!-- evaluate (?P<what>[\w -]+) -->\n.*?<!-- end -->", re.DOTALL)


def rendered(what: str, files: Sequence[Results]) -> str:
    """What stands between a README's markers: `table 2`, `figure 3b`, `report claims`, or `control tokens` for one.

    Raises:
        InputError: there is no such thing, or the results hold too little.
    """
    kind, _, value = what.partition(" ")
    if kind == "control":
        tables = {table.name: table for table in control_tables(find_main(files))}
        if value not in tables:
            raise InputError(f"the results hold no control arms called {value!r}; there are: {', '.join(tables)}")
        return tables[value].markdown()
    known = {"table": TABLES, "figure": FIGURES, "report": REPORTS}
    if value not in known.get(kind, ()) or value == "5":
        raise InputError(
            f"there is nothing called {what!r}: give such as 'table 2', 'figure 3b', 'report claims' or 'control "
            "tokens'"
        )
    args = argparse.Namespace(**{name: value if name == kind else None for name in known})
    return "\n\n".join((part.table() if isinstance(part, Chart) else part).markdown() for part in asked(files, args))


def fill_markers(text: str, files: Sequence[Results]) -> str:
    """The text with everything between `<!-- evaluate WHAT -->` and `<!-- end -->` made anew; raises as `rendered`."""
    return MARKER.sub(lambda m: f"<!-- evaluate {m['what']} -->\n{rendered(m['what'], files)}\n<!-- end -->", text)


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
