"""Markdown of lesson files as HTML: CommonMark, in which tags are text and only safe addresses become links."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markupsafe import Markup

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable("image")  # pictures come from the pack alone


def to_html(text: str) -> Markup:
    """HTML of a text; tags in it are shown and not obeyed.

    Example:
        >>> str(to_html("**Two** <b>rulers</b>"))
        '<p><strong>Two</strong> &lt;b&gt;rulers&lt;/b&gt;</p>'
    """
    return Markup(_MARKDOWN.render(text).strip())


def inline(text: str) -> Markup:
    """HTML of a line.

    Example:
        >>> str(inline("1. a *small* `x`"))
        '1. a <em>small</em> <code>x</code>'
    """
    return Markup(_MARKDOWN.renderInline(" ".join(text.split())))
