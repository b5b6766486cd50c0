"""The feature pictures of the paper's Fig. 3 to 5 on the embedded model: PCA of DiT features, and attention maps.

    python tests/benchmarks/study_pictures.py --out docs/images

Writes study-features.png and study-attention.png and prints the numbers that go with them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study_cases import study_case  # noqa: E402
from study_methods import Motion, Trained  # noqa: E402
from study_rows import ADVISED, TRAININGS, Plan  # noqa: E402

from det_core.files import atomic_write  # noqa: E402
from det_core.models.compute.precision import Compute  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel, read_clip  # noqa: E402
from det_core.tracking.draw import contact_sheet  # noqa: E402
from det_core.tracking.look import LIGHT  # noqa: E402

MOTION = 4  # the figure eight, which the model never saw in training
BLOCK = 3  # the 4th, as in the paper; there it is the 4th of 42
CELL = 8  # pixels to a token
MAP_FRAMES = 6  # frames of the attention maps that are drawn


@contextmanager
def features(motion: Motion) -> Iterator[dict[int, list[torch.Tensor]]]:
    """Outputs of every block's attention with the prompt, (videos, S, C) at every step of every batch of videos."""
    seen: dict[int, list[torch.Tensor]] = {block: [] for block in range(motion.spec.num_blocks)}
    handles = []
    for block, tap in enumerate(motion.spec.taps):

        def keep(_module, _args, out, block=block):
            seen[block].append(out[0][len(out[0]) // 2 :].float())  # the half with the prompt

        handles.append(motion.denoiser.transformer.get_submodule(tap.output).register_forward_hook(keep))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def features_of(motion: Motion, trained: Trained, how: Any) -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
    """The videos of one method, and by block their features averaged over all sampling steps: (videos, S, C)."""
    videos, by_prompt = [], {block: [] for block in range(motion.spec.num_blocks)}
    for prompt in motion.case.prompts:
        with features(motion) as seen:
            videos += motion.videos(trained, how, [(prompt, seed) for seed in Plan.study().seeds])
        for block, calls in seen.items():
            by_prompt[block].append(torch.stack(calls).mean(0))
    return videos, {block: torch.cat(means) for block, means in by_prompt.items()}


@contextmanager
def attention_maps(motion: Motion) -> Iterator[list[torch.Tensor]]:
    """The attention of every block, mean over heads, from video tokens to video tokens: (S, S), rows sum to 1."""
    queries: dict[int, torch.Tensor] = {}
    maps: list[torch.Tensor] = []
    count = motion.latents[0, 0].numel()

    def on_key(_module, _args, key: torch.Tensor, block: int) -> None:
        query = queries.pop(block)[-1, :, -count:].float()
        maps.append((query @ key[-1, :, -count:].float().mT * query.shape[-1] ** -0.5).softmax(-1).mean(0))

    handles = []
    for block, tap in enumerate(motion.spec.taps):
        attention = motion.denoiser.transformer.get_submodule(tap.input)
        handles += [
            attention.norm_q.register_forward_hook(lambda _m, _a, query, block=block: queries.update({block: query})),
            attention.norm_k.register_forward_hook(lambda m, a, key, block=block: on_key(m, a, key, block)),
        ]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def foreground(video: torch.Tensor) -> torch.Tensor:
    """(T*H*W,) bool: the tokens whose centre the sprite covers."""
    reading = read_clip(video)
    axis = (torch.arange(video.shape[1] // CELL) + 0.5) * CELL
    places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    return ((places - reading.centres[:, None, None]).norm(dim=-1) < CELL).flatten()


def told_apart(feature: torch.Tensor, is_sprite: torch.Tensor) -> float:
    """Share of tokens nearer to the mean of their own kind (sprite, background), the mean of both kinds' shares."""
    means = torch.stack([feature[~is_sprite].mean(0), feature[is_sprite].mean(0)])
    nearest = torch.cdist(feature, means).argmin(1).bool()
    return 0.5 * (nearest[is_sprite].float().mean() + (~nearest[~is_sprite]).float().mean()).item()


def steadiness(feature: torch.Tensor, is_sprite: torch.Tensor, frames: int) -> float:
    """Mean cosine of a background token's feature to the same place's in the next frame."""
    series, sprite = feature.unflatten(0, (frames, -1)), is_sprite.unflatten(0, (frames, -1))
    both = ~(sprite[1:] | sprite[:-1])
    return torch.cosine_similarity(series[1:], series[:-1], dim=-1)[both].mean().item()


def principal_colours(feature: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """The first three principal components of one video's features as red, green and blue: (T, H, W, 3)."""
    centred = feature - feature.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    projected = centred @ directions[:3].T
    low, high = (projected.quantile(q, dim=0) for q in (0.02, 0.98))
    return ((projected - low) / (high - low)).clamp(0, 1).unflatten(0, grid)


def features_picture(motion: Motion, block: int = BLOCK) -> Image.Image:
    """Generated frames and features of one block, without adapter, with LoRA and with DeT, all from the same noise."""
    grid = motion.spec.grid(motion.latents.shape)
    methods = {"no adapter": ("nothing", None), "LoRA": ("lora", None), "DeT": ("det", ADVISED)}
    rows = [("source", motion.source.pixels)]
    for name, (training, how) in methods.items():
        videos, found = features_of(motion, TRAININGS[training](motion), how)
        sprites = [foreground(video) for video in videos]
        for index, feature in found.items():
            apart = mean(told_apart(f, s) for f, s in zip(feature, sprites, strict=True))
            steady = mean(steadiness(f, s, grid[0]) for f, s in zip(feature, sprites, strict=True))
            print(f"{name}, block {index}: told apart {apart:.3f}, background from frame to frame {steady:.3f}")
        rows.append((f"{name}: {motion.case.prompts[0]}", videos[0]))
        rows.append((f"{name}: features of block {block}", principal_colours(found[block][0], grid)))
    return contact_sheet(rows, grid[0], 88)


def attention_picture(motion: Motion) -> Image.Image:
    """Token-to-token attention of an early and a late block on the noised source; frames follow each other."""
    grid = motion.spec.grid(motion.latents.shape)
    t = torch.tensor([600.0])
    noise = torch.randn(motion.latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), attention_maps(motion) as maps:
        motion.denoiser.predict_velocity(motion.denoiser.add_noise(motion.latents, noise, t), t, motion.cond)
    frame = torch.arange(grid[0]).repeat_interleave(grid[1] * grid[2])
    place = torch.arange(grid[1] * grid[2]).repeat(grid[0])
    distance = (frame[:, None] - frame[None]).abs()
    same_place = place[:, None] == place[None]
    for block, found in enumerate(maps):
        shares = ", ".join(
            f"{d}: {100 * found[distance == d].sum() / len(found):.0f}% "
            f"({100 * found[(distance == d) & same_place].sum() / len(found):.1f}%)"
            for d in range(grid[0])
        )
        print(f"block {block}, attention by frames apart (of it to the same place): {shares}")
    return side_by_side({f"block {b}": maps[b] for b in (BLOCK, len(maps) - 1)}, grid)


def side_by_side(maps: dict[str, torch.Tensor], grid: tuple[int, int, int]) -> Image.Image:
    """The first frames of maps (S, S) as pictures on a logarithmic scale, lines between the frames."""
    gap, top, places = 10, 24, grid[1] * grid[2]
    side = MAP_FRAMES * places
    picture = Image.new("RGB", (len(maps) * (side + gap) + gap, side + top + gap), LIGHT.paper)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for number, (name, found) in enumerate(maps.items()):
        left = gap + number * (side + gap)
        strength = ((found * len(found)).log2().clamp(-1, 5) + 1) / 6  # half to 32 times the mean attention
        shade = (255 * (1 - strength[:side, :side])).byte()
        picture.paste(Image.fromarray(shade.numpy()), (left, top))
        for k in range(1, MAP_FRAMES):
            pen.line([left + k * places, top, left + k * places, top + side], fill=(150, 180, 215))
            pen.line([left, top + k * places, left + side, top + k * places], fill=(150, 180, 215))
        pen.rectangle([left, top, left + side, top + side], outline=LIGHT.ink)
        pen.text((left, 4), name, LIGHT.ink, font)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100, help="of training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    motion = Motion(EmbeddedModel(Compute.on("cpu")), study_case(MOTION), steps=args.steps)
    for name, picture in (("attention", attention_picture(motion)), ("features", features_picture(motion))):
        with atomic_write(args.out / f"study-{name}.png") as temporary:
            picture.quantize(64).save(temporary, optimize=True)


if __name__ == "__main__":
    main()
