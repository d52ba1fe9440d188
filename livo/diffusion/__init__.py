"""Running a diffusion model: loading it, encoding prompts, and denoising any number of plans in one batch."""
