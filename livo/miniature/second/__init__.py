"""The drawn world's second edition: 128 x 128 pictures, drawings as data, more people. Beside the first until its
weights are trained; then these files replace the first's, whose names they have, and this folder goes.

`world.yaml` says what exists, `drawings.yaml` how it looks in the language of `pen.py`; `captions.py` and `world.py`
have the names that the first's have, so that the switch changes imports alone.

A new occupation is a row of `occupations` in `world.yaml`, one of `wardrobe` in `drawings.yaml` and a prop of its own
in `props`; an adjective is a row of `adjectives`, one of `looks`, and what it adds in `signs`. A place is a word of
`places` and its drawing. `python -m livo.miniature.second` shows them all.
"""
