"""Training a value encoder on preference pairs: data, losses, one step, and the run."""
