"""Training and solving for edited cross-attention weights."""
