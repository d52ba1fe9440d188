"""Trains the miniature: a small, real latent diffusion model of the drawn world, and the evaluator that judges it."""
