"""Where a temporal kernel gets its sense of place: the embedded DiT with absolute positions, and a twin with rotary.

    python tests/benchmarks/positions.py --out runs/positions

The twin has the shipped weights, rotary positions in every attention (CogVideoX-5B's) instead of the table of places
that is added to the tokens, and 1,600 steps of training to live with that: about 17 minutes of one core. Both then
learn the same motions by the same methods, and are asked for the source's own prompt, another object on the source's
background, and two other worlds. A run continues where it was stopped; --report shows what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean

import torch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study_report import interval  # noqa: E402

from det_core.adapter.motion_adapter import MotionAdapter  # noqa: E402
from det_core.bench.adapters import Adapters, Trained  # noqa: E402
from det_core.bench.guided import guided_video  # noqa: E402
from det_core.bench.units import BASE  # noqa: E402
from det_core.files import write_json  # noqa: E402
from det_core.measure import SpriteRuler  # noqa: E402
from det_core.models.compute.precision import Compute  # noqa: E402
from det_core.models.embedded import train  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel, read_clip, sprite_path, sprite_tracks  # noqa: E402
from det_core.models.embedded.corpus import UNSEEN_FAMILIES, Scene, make_clip  # noqa: E402
from det_core.models.embedded.model import TinyModel  # noqa: E402
from det_core.models.families.cogvideox import cogvideox_rotary  # noqa: E402
from det_core.models.generate import Sampling, generate, latent_shape  # noqa: E402
from det_core.source import Source  # noqa: E402

ARMS = ("absolute", "rotary")
MOTIONS = (*UNSEEN_FAMILIES, "loop", "spiral", "zigzag", "bounce", "there_and_back")
POINTS = 40
# row -> (method of the benchmark, blocks that keep their kernel, seeds of sampling)
ROWS = {
    BASE: (BASE, 0, (0, 1)), "guided": ("guided", 0, (0,)), "lora": ("lora", 0, (0, 1)),
    "fast": ("fast", 8, (0, 1)), "fast3": ("fast", 3, (0, 1)),
    "paper": ("det", 8, (0, 1)), "paper3": ("det", 3, (0, 1)),
}  # fmt: skip


def with_rotary(model: TinyModel) -> TinyModel:
    """`model` with rotary positions, changed in place; its weights do not know it yet."""
    model.transformer.register_to_config(use_rotary_positional_embeddings=True)
    model.transformer.patch_embed.use_positional_embeddings = False
    model.transformer.set_attn_processor(CogVideoXAttnProcessor2_0())
    return model


class CalledWithRotary:
    """A transformer that is given its rotary table, as the trainer of the embedded DiT calls it."""

    def __init__(self, transformer):
        self.transformer = transformer
        self.parameters, self.load_state_dict = transformer.parameters, transformer.load_state_dict

    def __call__(self, x: torch.Tensor, text: torch.Tensor, t: torch.Tensor, return_dict: bool):
        table = cogvideox_rotary(self.transformer, (x.shape[1], *x.shape[3:]))
        return self.transformer(
            x, text, t, image_rotary_emb=tuple(part.bfloat16() for part in table), return_dict=return_dict
        )


def train_twin(folder: Path, steps: int) -> None:
    model = with_rotary(TinyModel.load())
    model.transformer.requires_grad_(True)
    config = train.TinyTrainConfig(
        seed=7, image_steps=steps // 4, video_steps=steps - steps // 4, image_batch=48, video_batch=6, muon_lr=0.012,
        adam_lr=1e-3, decay_share=0.5, ema_decay=0.99, pool_size=3000, pool_steps=600,
    )  # fmt: skip
    trainer = train.Trainer(model, train.SpriteBatches(model, config), config, "cpu")
    trainer.compute = CalledWithRotary(trainer.compute)
    train.keep_training(trainer, folder, 100)


def twin(folder: Path) -> TinyModel:
    """The twin that `train_twin` left in a folder."""
    trained = TinyModel.load(folder / "weights.safetensors")
    return with_rotary(trained)


@dataclass(frozen=True)
class Clip:
    """A source, its caption, and (kind, prompt) of what is asked for."""

    source: Source
    caption: str
    prompts: list[tuple[str, str]]


def clip_of(family: str) -> Clip:
    """The same for both models."""
    generator = torch.Generator().manual_seed(31000 + MOTIONS.index(family))
    held_out = Scene.held_out()

    def one_of(scenes: list[Scene]) -> Scene:
        return scenes[int(torch.randint(len(scenes), (), generator=generator))]

    scene = one_of(held_out)
    clip = make_clip(scene, family, generator)
    others = [s for s in Scene.training() + held_out if s.colour != scene.colour and s.shape != scene.shape]
    same = [s for s in others if (s.background, s.pattern) == (scene.background, scene.pattern)]
    far = [s for s in others if s in held_out and s.background != scene.background]
    prompts = [("own", scene), ("own ground", one_of(same)), ("other", one_of(far)), ("other 2", one_of(far))]
    reading = read_clip(clip.frames)
    covered = reading.first_mask.nonzero()
    points = covered[torch.randperm(len(covered), generator=generator)[:POINTS]].flip(-1).float()
    tracks = sprite_tracks(reading, (points + 0.5) / clip.frames.shape[1])
    source = Source(family, "0", 8.0, (clip.frames * 255).byte(), clip.frames, tracks)
    return Clip(source, scene.caption, [(kind, s.caption) for kind, s in prompts])


class Arm:
    """One of the two models: what it learned, what it samples, and the file of its scores."""

    def __init__(self, name: str, out: Path):
        self.name, self.out, self.file = name, out, out / f"{name}.jsonl"
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        self.scores = [json.loads(line) for line in lines]

    @cached_property
    def model(self) -> EmbeddedModel:
        tiny = TinyModel.load() if self.name == "absolute" else twin(self.out / "twin")
        return EmbeddedModel(Compute.on(), tiny)

    def run(self, family: str, row: str, seed: int) -> None:
        """Score the prompts of one clip, where that has not been done."""
        done = {tuple(score["key"]) for score in self.scores}
        clip = clip_of(family)
        if all((row, family, seed, kind) in done for kind, _ in clip.prompts):
            return
        for (kind, prompt), video in zip(clip.prompts, self._videos(clip, row, seed), strict=True):
            found, reading = SpriteRuler().measure(video, prompt, clip.source), read_clip(video)
            away = None
            if reading.seen.any():
                paths = [
                    sprite_path(one).points[0] * video.shape[1] for one in (reading, read_clip(clip.source.pixels))
                ]
                away = float((paths[0] - paths[1]).norm(dim=-1).mean())
            scores = {"mf": found.motion_fidelity, "ef": found.edit_fidelity, "px": away}
            score = {"key": [row, family, seed, kind], **scores}
            self.scores.append(score)
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(json.dumps(score) + "\n")

    def _videos(self, clip: Clip, row: str, seed: int) -> Iterator[torch.Tensor]:
        method, keep, _ = ROWS[row]
        jobs = [(prompt, seed) for _, prompt in clip.prompts]
        if method == "guided":
            yield from (guided_video(self.model, clip.source, method, *job) for job in jobs)
            return
        trained = Trained()
        if method != BASE:
            folder = self.out / f"adapters-{self.name}"
            adapters = Adapters(self.model, folder, {"bf16": self.model.denoiser.bf16})
            trained, _ = adapters.get(clip.source.name, method, 0, clip.source, clip.caption)
        yield from self._sampled(trained.kernels, keep, trained, jobs)

    def _sampled(self, kernels: MotionAdapter | None, keep: int, trained: Trained, jobs) -> Iterator[torch.Tensor]:
        sampling = Sampling(keep=range(keep) if kernels is not None else None)
        with trained.loras_attached(self.model.denoiser.transformer), torch.no_grad():
            yield from generate(self.model, kernels, jobs, latent_shape(self.model, 9, 64, 64), sampling)


def table(arm: Arm) -> dict[str, dict]:
    """row and kind of prompt -> means over the motions that are whole, and the gain on no adapter from the same noise,
    with its interval over motions."""
    by, found = {tuple(score["key"]): score for score in arm.scores}, {}
    for row in ROWS:
        for kinds in (("own",), ("own ground",), ("other", "other 2")):
            keys = {family: [(family, seed, kind) for seed in ROWS[row][2] for kind in kinds] for family in MOTIONS}
            whole = [each for each in keys.values() if all((row, *key) in by for key in each)]
            if not whole:
                continue
            scores = [by[(row, *key)] for each in whole for key in each]
            values = {name: mean(s[name] for s in scores if s[name] is not None) for name in ("mf", "ef", "px")}
            gains = [[_mf(by[(row, *key)]) - _mf(by[(BASE, *key)]) for key in each] for each in whole]
            gain = [mean(map(mean, gains)), *interval(gains)]
            found[f"{row}, {kinds[0]}"] = {"motions": len(whole), "videos": len(scores), **values, "gain": gain}
    return found


def _mf(score: dict) -> float:
    """A video without a sprite follows nothing."""
    return score["mf"] or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1600, help="of the twin's training")
    parser.add_argument("--report", action="store_true", help="only show what is there")
    parser.add_argument("--json", type=Path, help="where the numbers go, too")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.report:
        train_twin(args.out / "twin", args.steps)
    arms = [Arm(name, args.out) for name in ARMS]
    if not args.report:
        for arm in arms:
            for family in MOTIONS:
                for row in ROWS:
                    for seed in ROWS[row][2]:
                        arm.run(family, row, seed)
    found = {arm.name: table(arm) for arm in arms}
    for arm, rows in found.items():
        for name, row in rows.items():
            gain, low, high = row["gain"]
            scores = f"{row['mf']:.3f} | {row['ef']:.3f} | {row['px']:.1f} | {gain:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"| {arm} | {name} | {row['videos']} | {scores} |")
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
