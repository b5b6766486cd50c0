"""Follow-Your-Motion: LoRAs of the spatial and of the temporal attention heads, learned from few frames.

(arXiv 2506.05207; the ICLR 2026 text calls it EffiVMT.)
"""
