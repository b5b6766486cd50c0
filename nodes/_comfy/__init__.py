"""The bridge between det_core and ComfyUI: everything that knows how a MODEL, a CLIP or a VAE is made inside.

Six rooms: sockets, loading, gradients, sampling, training, display.
"""
