"""LoRA on the attention projections, and its file."""
