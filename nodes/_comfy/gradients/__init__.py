"""A gradient through ComfyUI's models: weights, blocks and quantised layers made fit for a backward."""
