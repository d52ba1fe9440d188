"""The harness behind the tables and figures: `python -m livo evaluate` generates, judges and keeps one results file.

Knows methods only as `livo.compare.comparison.MethodEntry`s that its caller loaded, and nothing of the page.
"""
