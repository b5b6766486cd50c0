"""ComfyUI-DeT: learn the motion of one video and replay it on another subject. ComfyUI starts here; scripts import
`det_core`."""

WEB_DIRECTORY = "./nodes/web"


async def comfy_entrypoint():
    """Called by ComfyUI, and by nothing else: outside ComfyUI this package imports without it."""
    from .nodes import DeTExtension

    return DeTExtension()
