"""Scores of one unit: for clips of the embedded model read exactly, for real videos by tracker, CLIP and DINO."""

from __future__ import annotations

import torch

from ..measure import SpriteRuler, VideoRuler, WorldRuler, by_reference_code, followed
from ..metrics import edit_fidelity
from ..metrics.appearance import consistency_of
from ..metrics.features import ClipFeatures, VisionFeatures
from ..models.embedded.base_model import read_clip, scene_of, sprite_path
from ..models.embedded.world.parts import object_paths
from ..models.embedded.world.reader import read_world
from ..models.embedded.world.scene import world_of
from ..source import Source
from ..tracking.tracks import Tracks

Measured = tuple[dict[str, float | None], Tracks | None, torch.Tensor | None]  # scores, tracks, look


class SpriteMeasures:
    """For the embedded model. Similarity to the source: over what the prompt wants different from the source (colour,
    shape, background), the share of frames that show the source's instead."""

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measured:
        """Scores of frames (T, 64, 64, 3) in [0, 1], and the path of the sprite."""
        scores = SpriteRuler().measure(frames, prompt, source).scores()
        reading, wanted = read_clip(frames), scene_of(prompt)
        scores["source_similarity"] = (
            None if wanted is None else _share_of_source(reading, read_clip(source.pixels), wanted)
        )
        return scores, sprite_path(reading) if reading.seen.any() else None, None


class WorldMeasures:
    """For embedded model 2. Similarity to the source: the share of frames that show a colour or the background of the
    source where the prompt wants another."""

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measured:
        """Scores of frames (T, 64, 64, 3) in [0, 1], and the paths of the objects."""
        scores = WorldRuler().measure(frames, prompt, source).scores()
        wanted, reading, shown = world_of(prompt), read_world(frames), read_world(source.pixels)
        scores["source_similarity"] = None
        if wanted is not None:
            named = {thing.colour for thing in wanted.things}
            kept = {one.colour for one in shown.objects} - named
            shares = [float(one.seen.float().mean()) for one in reading.objects if one.colour in kept] or [0.0]
            if (shown.ground.colour, shown.ground.pattern) != (wanted.background, wanted.pattern):
                same = (shown.ground.colour, shown.ground.pattern) == (reading.ground.colour, reading.ground.pattern)
                shares = [max(shares), float(same)]
            scores["source_similarity"] = sum(shares) / len(shares)
        return scores, object_paths(reading), None


def _share_of_source(reading, source, wanted) -> float | None:
    """Mean over the attributes that differ between prompt and source; None where none does."""
    kinds = (
        (reading.colours, source.colours, wanted.colour),
        (reading.shapes, source.shapes, wanted.shape),
        (reading.backgrounds, source.backgrounds, (wanted.background, wanted.pattern)),
    )
    shares = []
    for shown, in_source, target in kinds:
        own = max(set(in_source), key=in_source.count)
        if own != target:
            shares.append(sum(s == own for s in shown) / len(shown))
    return sum(shares) / len(shares) if shares else None


class VideoMeasures:
    """For real videos; CLIP and DINO from local folders if given."""

    def __init__(self, device: str, clip: str | None, dino: str | None):
        self.dino = None if dino is None else VisionFeatures(dino, device)
        self.ruler = VideoRuler(device, None if clip is None else ClipFeatures(clip, device))

    def measure(self, frames: torch.Tensor, prompt: str, source: Source) -> Measured:
        """Scores of frames (T, H, W, 3) in [0, 1], their tracks, and the look of the video."""
        wanted, moved = self.ruler.tracked(frames, source)
        scores = {
            **followed(wanted, moved).scores(),
            "motion_fidelity_reference_code": by_reference_code(wanted, moved),
            "edit_fidelity": edit_fidelity(frames, prompt, self.ruler.clip),
            "temporal_consistency_reference_code": None,
            "source_similarity": None,
        }
        if self.dino is None:
            return scores, moved, None
        looks = self.dino.class_tokens(frames)
        scores["temporal_consistency"] = consistency_of(looks)
        scores["temporal_consistency_reference_code"] = consistency_of(looks, "reference_code")
        scores["source_similarity"] = (self.dino.region(source.pixels) @ self.dino.region(frames)).item()
        return scores, moved, looks.mean(0)
