"""The little Markdown that lesson files use, as HTML: paragraphs, lists, quotes, bold, italics, code and links; all else is text."""

from __future__ import annotations

import re
from html import escape

_LINK = re.compile(r"\[([^\]]+)\]\(((?:https?://|/|#)[^)\s]*)\)")


def to_html(text: str) -> str:
    """HTML of a text; tags in it are shown and not obeyed.

    Example:
        >>> to_html("**Two** <b>rulers</b>")
        '<p><strong>Two</strong> &lt;b&gt;rulers&lt;/b&gt;</p>'
        >>> to_html("- one")
        '<ul><li>one</li></ul>'
    """
    return "".join(_block(block) for block in re.split(r"\n\s*\n", text.strip()) if block.strip())


def inline(text: str) -> str:
    """HTML of a line.

    Example:
        >>> inline("a *small* `x`")
        'a <em>small</em> <code>x</code>'
    """
    out = escape(" ".join(text.split()), quote=True)
    out = re.sub(r"`([^`]+)`", r"<code>\1</code>", out)
    out = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", out)
    out = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", out)
    return _LINK.sub(r'<a href="\2">\1</a>', out)


def _block(block: str) -> str:
    lines = block.strip().splitlines()
    for pattern, tag in ((r"- +", "ul"), (r"\d+\. +", "ol")):
        if re.match(pattern, lines[0]):
            entries = re.split(rf"^{pattern}", "\n".join(lines), flags=re.MULTILINE)[1:]
            return f"<{tag}>{''.join(f'<li>{inline(entry)}</li>' for entry in entries)}</{tag}>"
    if lines[0].startswith("> "):
        return f"<blockquote><p>{inline(' '.join(line.lstrip('> ') for line in lines))}</p></blockquote>"
    return f"<p>{inline(' '.join(lines))}</p>"
