"""Judges: they label images with probabilities and may abstain."""
