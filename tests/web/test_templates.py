"""Templates escape what they are given, say what is missing, and can be extended by other rooms."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from livo.web.templates import make_environment

HOSTILE = "<script>alert('x')</script>\" onload="


@pytest.mark.parametrize("name", ["card.html", "card.svg", "card.txt"])
def test_every_value_is_escaped_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('<p title="{{ text }}">{{ text }}{{ markup }}</p>')
    html = make_environment(tmp_path).get_template(name).render(text=HOSTILE, markup=Markup("<b>"))
    assert "<script" not in html and '" onload' not in html and html.endswith("<b></p>")


def test_a_value_that_was_not_given_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "card.html").write_text("{{ missing }}")
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        make_environment(tmp_path).get_template("card.html").render()


def test_another_rooms_template_extends_the_shell(tmp_path: Path) -> None:
    (tmp_path / "card.html").write_text(
        '{% extends "shell.html" %}{% block body %}<body>{{ text }}</body>{% endblock %}'
    )
    html = make_environment(tmp_path).get_template("card.html").render(title=HOSTILE, text="here")
    assert html.startswith("<!doctype html>") and "<body>here</body>" in html and "<script" not in html
