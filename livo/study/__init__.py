"""Human evaluation: the study file, who sees what in which order, a store that loses nothing, statistics and report.

    study.yaml + items.json + images/ -> plan of a rater -> answers -> store -> figures -> report, exports

No Gradio in here; `web/` is a small application of its own, served alone or beside the demo.
"""
