"""LiVO, its value encoder, and edited weights as files. The methods that it is compared with are in baselines/."""
