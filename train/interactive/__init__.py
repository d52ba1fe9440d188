"""Trainings that visitors of the page watch.

One run (`run.py`), each in a process of its own and in turn (`turns.py`).
"""
