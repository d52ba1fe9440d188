"""LiVO itself, its value encoder, and what methods that edit weights leave behind; the methods it is compared with are in baselines/."""
