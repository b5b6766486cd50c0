"""What every row of the study shares: the source motions, the held-out prompts, the noise and the scores.

Scores are read from the pixels (det_core/models/embedded/reader.py): motion fidelity of the sprite's path (the
paper's hybrid), edit fidelity as the share of frames with the prompted colour, shape and background, leakage as the
share with the SOURCE's.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from det_core.files import atomic_write
from det_core.measure import SpriteRuler
from det_core.models.embedded.base_model import EmbeddedModel, read_clip, sprite_tracks
from det_core.models.embedded.corpus import Clip, Scene, make_clip
from det_core.models.generate import generate
from det_core.source import Source
from det_core.tracking.tracks import sample_query_points

FAMILIES = ("loop", "spiral", "zigzag", "bounce", "figure_eight", "heart")  # the last two are not in the corpus
SCORES = ("motion_fidelity", "edit_fidelity", "temporal_consistency", "leakage")


@dataclass(frozen=True)
class Plan:
    """How much of the study is done. Units of different plans are never mixed."""

    name: str = "full"
    motions: int = len(FAMILIES)
    prompts: int = 2
    seeds: tuple[int, ...] = (100, 101, 102)
    steps: int = 100  # of training, where a row does not say otherwise


QUICK = Plan("quick", motions=2, prompts=2, seeds=(100,), steps=20)


def study_clip(index: int, prompts: int = 5) -> tuple[Clip, Source, list[str]]:
    """Source motion `index`, its tracks, and prompts that share no word with its scene.

    Indices from `len(FAMILIES)` on are other clips of the same families, for looking at settings before the study.
    """
    generator = torch.Generator().manual_seed(4000 + index)
    scenes = Scene.held_out()
    scene = scenes[int(torch.randint(len(scenes), (), generator=generator))]
    family = FAMILIES[index % len(FAMILIES)]
    clip = make_clip(scene, family, generator)
    reading = read_clip(clip.frames)
    points = sample_query_points(reading.first_mask, 50, generator=generator)
    frames = (clip.frames * 255).round().byte()
    source = Source(family, "", 8.0, frames, clip.frames, sprite_tracks(reading, points))
    other = [s for s in scenes if not {s.colour, s.shape, s.background, s.pattern} & set(scene.caption.split())]
    order = torch.randperm(len(other), generator=generator)[:prompts]
    return clip, source, [other[i].caption for i in order]


class Unit:
    """One source motion on the embedded model: its latents and caption, and how videos of it are made and scored."""

    def __init__(self, model: EmbeddedModel, index: int, plan: Plan = Plan()):
        self.model, self.index, self.plan = model, index, plan
        self.clip, self.source, self.prompts = study_clip(index, plan.prompts)
        self.latents = model.encode_video(self.source.pixels)
        self.cond = model.encode_prompts([self.clip.scene.caption])

    @property
    def denoiser(self):
        return self.model.denoiser

    @property
    def spec(self):
        return self.model.denoiser.spec

    def videos(self, applied: AbstractContextManager) -> list[torch.Tensor]:
        """A video (T, H, W, 3) for every prompt with every seed, with the method `applied`, in bfloat16 autocast."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), applied:
            shape = self.latents.shape
            return [
                video
                for prompt in self.prompts
                for video in generate(self.model, None, [(prompt, seed) for seed in self.plan.seeds], shape)
            ]

    def scored(self, applied: AbstractContextManager) -> list[dict]:
        """The scores of each of `videos`, in that order."""
        ruler, rows = SpriteRuler(), []
        pairs = [(prompt, seed) for prompt in self.prompts for seed in self.plan.seeds]
        for (prompt, seed), video in zip(pairs, self.videos(applied), strict=True):
            measured = ruler.measure(video, prompt, self.source)
            rows.append(
                {
                    "prompt": prompt,
                    "seed": seed,
                    "motion_fidelity": measured.motion_fidelity,
                    "edit_fidelity": measured.edit_fidelity,
                    "temporal_consistency": measured.temporal_consistency,
                    "leakage": read_clip(video).agreement(self.clip.scene)["edit_fidelity"],
                }
            )
        return rows


def write(path: Path, value: dict) -> None:
    """One JSON file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value))
