"""What fits and how fast: number formats, checkpointing, offloading, and an estimate of the memory."""
