"""The pictures of the help pages, made by the nodes themselves from the embedded model and its clips; nothing is drawn
by hand. The first time a motion is learned, a minute on a CPU; it is kept in the folder that is named.

    .venv-comfyui/bin/python workflows/source/help_pictures.py /tmp/help
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
TO = HERE.parents[1] / "nodes" / "web" / "docs" / "images"
PROMPT = "a green star on a teal striped background"


def pack_nodes(base: Path) -> SimpleNamespace:
    """This pack's node classes by name, in a ComfyUI that works in `base`."""
    from source.record import comfyui, own_nodes

    comfyui()
    import folder_paths

    folder_paths.models_dir = str(base / "models")
    folder_paths.set_temp_directory(str(base / "temp"))
    (base / "temp").mkdir(parents=True, exist_ok=True)
    own_nodes()
    modules = {name: module for name, module in sys.modules.items() if name.startswith("det_pack.nodes.")}
    return SimpleNamespace(**{k: v for m in modules.values() for k, v in vars(m).items() if k.startswith("DeT")})


def defaults(node) -> dict:
    return {i.id: i.default for i in node.define_schema().inputs if getattr(i, "default", None) is not None}


class Job:
    """The embedded model, and what the pictures need of it."""

    def __init__(self, nodes: SimpleNamespace):
        self.nodes = nodes
        self.model, self.clip, self.vae = nodes.DeTTinyModel.execute().result

    def call(self, name: str, **given):
        node = getattr(self.nodes, name)
        return node.execute(**{**defaults(node), **given}).result

    def words(self, text: str) -> list:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def learned(self, run_name: str, **scene):
        """(adapter, its losses, frames, tracks) of a drawn clip."""
        frames, words = self.call("DeTTinyClip", **scene)
        tracks, _ = self.call("DeTTrackVideo", frames=frames)
        given = {"latents": {"samples": self.vae.encode(frames)}, "caption": self.words(words), "tracks": tracks}
        settings = {"run_name": run_name, "preview_every": 0, "gradient_checkpointing": False}
        return *self.call("DeTTrainMotionAdapter", model=self.model, **given, **settings), frames, tracks

    def sampled(self, model, width: int = 64):
        """Frames (9, 64, width, 3) of one seed, as the templates sample."""
        import torch

        import nodes

        latent = {"samples": torch.zeros(1, 16, 9, 8, width // 8)}
        words = self.words(PROMPT), self.words("")
        (samples,) = nodes.common_ksampler(model, 0, 20, 3.0, "euler", "simple", *words, latent)
        return self.vae.decode(samples["samples"]).reshape(-1, 64, width, 3)


def moving(name: str, *rows: list[tuple[str, object]]) -> None:
    """Rows of videos side by side as one moving picture. The Info tab is 250 pixels wide: better two in a row."""
    import torch
    from det_pack.det_core.tracking.draw import side_by_side
    from PIL import Image

    frames = torch.cat([side_by_side(row) for row in rows], 1)
    first, *others = (Image.fromarray(frame.numpy()) for frame in frames)
    how = {"save_all": True, "append_images": others, "duration": 200, "loop": 0, "quality": 70, "method": 6}
    first.save(TO / f"{name}.webp", **how)


def still(name: str, pictures: list) -> None:
    """Pictures side by side."""
    from PIL import Image

    whole = Image.new("RGB", (sum(p.width + 8 for p in pictures) - 8, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + 8
    whole.save(TO / f"{name}.webp", quality=80, method=6)


def tracks_good_and_bad(job: Job) -> None:
    """1: on the subject. 2: on the background. 3: the subject left them behind. 4: 2, mended by a click."""
    import torch

    frames, _ = job.call("DeTTinyClip", pattern="checkered")
    away = (frames[:1] - frames[:1].flatten(1, 2).median(1).values[:, None, None]).abs().amax(-1) < 0.2
    good = job.call("DeTTrackVideo", frames=frames)[1]
    behind = job.call("DeTTrackVideo", frames=frames, mask=away.float(), tracker="dis")[1]
    jumps = frames[torch.tensor([0, 3, 6, 1, 4, 7, 2, 5, 8])]
    lost = job.call("DeTTrackVideo", frames=jumps, tracker="dis")[1]
    mended = job.call("DeTTrackVideo", frames=frames, clicks='[{"x": 50, "y": 27}]', tracker="dis")[1]
    moving("tracks", [("1", good), ("2", behind)], [("3", lost), ("4", mended)])


def scores(job: Job, tracks: dict, videos: list) -> None:
    from PIL import Image

    plots = [job.call("DeTEvaluateMotion", source=tracks, generated=v, background=v)[1] for v in videos]
    pictures = [Image.fromarray((plot[0] * 255).byte().numpy()) for plot in plots]
    still("evaluate", [p.resize((p.width * 5 // 8, p.height * 5 // 8), Image.Resampling.LANCZOS) for p in pictures])


def at_work(losses: dict, source, before, after) -> None:
    """The live picture as the node draws it, at its last step."""
    from det_pack.det_core.tracking.look import DARK
    from det_pack.nodes._comfy.display.live import live_picture, some_frames

    steps, loss = len(losses["loss"]), sum(losses["loss"][-20:]) / 20
    rows = [("source", source), ("before", before), (f"step {steps}", after)]
    words = [f"loss {loss:.4f}", f"step {steps} of {steps}"]
    still("training", [live_picture(losses, words, [(name, some_frames(v)) for name, v in rows], DARK)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the learned motion is kept")
    folder = parser.parse_args().folder
    TO.mkdir(exist_ok=True)
    job = Job(pack_nodes(folder.resolve()))
    tracks_good_and_bad(job)
    loop, losses, frames, tracks = job.learned("help loop")

    def moved(strength: float):
        return job.call("DeTApplyMotionAdapter", model=job.model, adapter=loop, strength=strength)[0]

    by_strength = {strength: job.sampled(moved(strength)) for strength in (0.0, 0.5, 1.0, 1.5)}
    scores(job, tracks, [by_strength[0.0], by_strength[1.0]])
    at_work(losses, frames, by_strength[0.0], by_strength[1.0])
    moving("replay", [("source", frames), ("without", by_strength[0.0]), ("with", by_strength[1.0])])
    named = [(f"{strength:g}", video) for strength, video in by_strength.items()]
    moving("strength", named[:2], named[2:])


if __name__ == "__main__":
    main()
