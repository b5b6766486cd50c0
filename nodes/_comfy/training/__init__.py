"""A MODEL as the denoiser that det_core trains through; the clip it learns from, its saved runs, its samples."""
