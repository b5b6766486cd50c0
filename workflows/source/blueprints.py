"""Blueprints: subgraphs that ComfyUI offers as one node, for any base model that samples with KSampler."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Graph, Inlet, Open, Out, Shown
from .parts import EULER, apply, train, video_of

SETTINGS = {"steps": 20, "cfg": 6.0, "seed": 0}
FPS = Shown("fps", 16.0)  # of a replayed motion, until its own rate is connected


def learning(s: Graph, model: Inlet, clip: Inlet, vae: Inlet, video: Inlet) -> dict[str, Out]:
    images, _, own_fps, *_ = s.add("GetVideoComponents", None, video=video)
    size = {name: Shown(name, 0) for name in ("width", "height", "length")}
    given = {"source_fps": own_fps, "fit": Shown("fit", "crop"), "longer": Shown("longer", "cut"), **size}
    frames, empty, fps = s.add("DeTFitVideo", None, model=model, frames=images, **given)
    latents = s.add("VAEEncode", None, pixels=frames, vae=vae)[0]
    caption = s.add("CLIPTextEncode", "Caption of the source", clip=clip, text=Shown("caption", ""))[0]
    s.column()
    tracks = s.add("DeTTrackVideo", None, frames=frames)[0]
    s.column()
    given = {"preset": Shown("preset", "auto"), "run_name": Shown("run_name", "my motion"), "preview_every": 0}
    adapter, _ = train(s, model, latents, caption, tracks, fps=fps, **given)
    return {"adapter": adapter, "frames": frames, "empty latent": empty, "fps": fps, "tracks": tracks}


def replaying(s: Graph, model: Inlet, adapter, clip: Inlet, vae: Inlet, latent, fps=FPS) -> dict[str, Out]:
    prompt = s.add("CLIPTextEncode", "Prompt", clip=clip, text=Shown("prompt", ""))[0]
    negative = s.add("CLIPTextEncode", "Negative prompt", clip=clip, text=Shown("negative_prompt", ""))[0]
    s.column()
    moved = apply(s, model, adapter, strength=Shown("strength", 1.0))
    given = {"positive": prompt, "negative": negative, "latent_image": latent, **EULER, "denoise": 1.0}
    shown = {name: Shown(name, value) for name, value in SETTINGS.items()}
    samples = s.add("KSampler", None, model=moved, **given, **shown)[0]
    s.column()
    images = s.add("VAEDecode", None, samples=samples, vae=vae)[0]
    return {**video_of(s, images, fps), "frames": images}


def transferring(s: Graph, model: Inlet, clip: Inlet, vae: Inlet, video: Inlet) -> dict[str, Out]:
    learnt = learning(s, model, clip, vae, video)
    s.column()
    made = replaying(s, model, learnt["adapter"], clip, vae, learnt["empty latent"], learnt["fps"])
    return {**made, "adapter": learnt["adapter"]}


BASE = {"model": Open("MODEL"), "clip": Open("CLIP"), "vae": Open("VAE")}
LEARNT = {"adapter": Open("DET_ADAPTER"), "latent": Open("LATENT")}
# Name -> (what comes in, what is inside, what the node says of itself)
BLUEPRINTS: dict[str, tuple[dict[str, Open], Callable[..., dict[str, Out]], str]] = {
    "Transfer motion": (
        {**BASE, "video": Open("VIDEO")},
        transferring,
        "Learn the motion of a video and make another one that moves so: video and prompt in, video out.",
    ),
    "Learn a motion": (
        {**BASE, "video": Open("VIDEO")},
        learning,
        "Learn the motion of a video: what comes out goes into Replay a motion, or into Save Motion Adapter.",
    ),
    "Replay a motion": (
        {**BASE, **LEARNT},
        replaying,
        "Make a video that moves as a learned motion does; the empty latent says its size and length.",
    ),
}
