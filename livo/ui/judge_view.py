"""What is known of the judges, as escaped HTML: a figure without their errors, and two of them held beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

UNMEASURED = "not measured"


def corrected_row(name: str, figures: Mapping[str, Any], key: str, unit: str = "") -> str:
    """A row of a list of scores: a figure corrected for the judge's errors, or that these were never measured."""
    known = figures.get("corrected")
    value = f"<b>{100 * known[key]:.1f}</b>{unit}" if known else UNMEASURED
    return f"<div><dt>{escape(name)} without the judge's errors</dt><dd>{value}</dd></div>"


def agreement_html(agreement: Mapping[str, Mapping[str, Any]]) -> str:
    """By question, what a second judge says of the same images, and how far both agree; empty with one judge."""
    if not agreement:
        return ""
    rows = "".join(_agreement_row(question, told) for question, told in agreement.items())
    return f'<div class="result agreement"><h4>Two judges</h4><dl class="scores">{rows}</dl></div>'


def _agreement_row(question: str, told: Mapping[str, Any]) -> str:
    low, high = told["alike_interval"]
    alike = round(told["alike"] * told["n"])
    kappa = "κ not defined"
    if told["kappa"] is not None:
        kappa = f"κ {told['kappa']:.2f} ({told['kappa_interval'][0]:.2f} to {told['kappa_interval'][1]:.2f})"
    counts = ", ".join(f"{label} {count}" for label, count in told["second_counts"].items())
    return (
        f"<div><dt>{escape(question)}</dt><dd>{escape(told['second'])} says {escape(counts)}; like {escape(told['first'])} in "
        f"<b>{alike} of {told['n']}</b> <span>({100 * low:.0f} to {100 * high:.0f} %), {kappa}</span></dd></div>"
    )
