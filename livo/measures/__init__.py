"""Pure functions from counts, scores and features to figures and their intervals; nothing here loads a model."""
