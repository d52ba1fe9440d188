"""HTML is made here and nowhere else: by templates, in which every value is escaped unless it is `Markup`.

render("print/guide.html", lesson=lesson)            a template of this folder
make_environment(folder).get_template("card.html")   another room's own, which may extend those of this folder
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def make_environment(*folders: Path) -> Environment:
    """Templates of these folders, then of this one; a name that is not given is an error, not an empty string."""
    return Environment(
        loader=FileSystemLoader([*folders, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


_OWN = make_environment()


def render(name: str, **values: object) -> Markup:
    """A template of this folder, filled in.

    Args:
        name: its path in this folder, such as "print/guide.html".

    Returns:
        HTML that further templates take in as it is.

    Raises:
        jinja2.TemplateNotFound: there is no such template.
        jinja2.UndefinedError: it needs a value that was not given.
    """
    return Markup(_OWN.get_template(name).render(**values))
