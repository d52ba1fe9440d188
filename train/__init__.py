"""Training: the miniature, preference data, value encoders. Imports livo and baselines; nothing imports it."""
