"""Motion transfer on video diffusion transformers, in plain torch: no ComfyUI needed, none imported."""

__version__ = "0.1.0"
