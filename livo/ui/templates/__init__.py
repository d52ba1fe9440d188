"""The page's own templates. Every value in them is escaped unless it is `Markup`; the macros of a file are its
parts."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from livo.web.templates import make_environment

_OWN = make_environment(Path(__file__).parent)


def render(name: str, /, **values: object) -> Markup:
    """A template of this folder, filled in; HTML that further templates take in as it is.

    Raises:
        jinja2.TemplateNotFound: there is no such template.
        jinja2.UndefinedError: it needs a value that was not given.
    """
    return Markup(_OWN.get_template(name).render(**values))
