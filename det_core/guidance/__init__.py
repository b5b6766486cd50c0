"""Motion without training: the latents of the first steps of a sampling are moved against what the model sees in the
source video."""
