"""How the page looks: a calm theme, light and dark, in the fonts of the visitor's own system; nothing is fetched."""

from __future__ import annotations

import gradio as gr

from livo.ui.files import CSS, SCRIPTS

__all__ = ["CSS", "build_theme", "head"]

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def build_theme() -> gr.themes.Base:
    """The theme; every pair of text and ground has a contrast of at least 4.5."""
    accent = gr.themes.Color(
        "#effaf8", "#d5f2ed", "#aee5db", "#7dd1c4", "#48b3a5", "#23897d", "#0f6e64", "#0c5b53", "#0b4943", "#0a3d38",
        "#062522",
        name="accent",
    )  # fmt: skip
    return gr.themes.Base(
        primary_hue=accent, secondary_hue="slate", neutral_hue="slate", radius_size="md", font=SANS, font_mono=MONO
    ).set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#0f141b",
        body_text_color="#18212c",
        body_text_color_dark="#e6ebf1",
        block_background_fill="#ffffff",
        block_background_fill_dark="#171e28",
        block_border_width="0px",
        block_shadow="none",
        block_label_text_color="#3d4a5a",
        block_label_text_color_dark="#b4c0ce",
        block_title_text_color="#3d4a5a",
        block_title_text_color_dark="#b4c0ce",
        input_background_fill="#ffffff",
        input_background_fill_dark="#10161e",
        input_border_color="#8592a2",
        input_border_color_dark="#5b6a7c",
        input_border_width="1px",
        button_primary_background_fill="#0f6e64",
        button_primary_background_fill_hover="#0c5b53",
        button_primary_background_fill_dark="#0f766b",
        button_primary_background_fill_hover_dark="#0c5b53",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#1d2632",
        button_secondary_border_color="#8592a2",
        button_secondary_border_color_dark="#5b6a7c",
        button_secondary_text_color="#18212c",
        button_secondary_text_color_dark="#e6ebf1",
    )


def head() -> str:
    """The page's scripts, for `launch(head=...)`."""
    return "".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in SCRIPTS)
