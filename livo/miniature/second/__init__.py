"""The drawn world's second edition: 128 x 128 pictures, drawings as data, more people. Beside the first until its
weights are trained; then these files replace the first's, whose names they have, and this folder goes.

`world.yaml` says what exists, `drawings.yaml` how it looks in the language of `pen.py`; `captions.py` and `world.py`
have the names that the first's have, so that the switch changes imports alone.
"""
