"""Train embedded model 2 from model 1's weights: `python -m det_core.models.embedded.world.train --out runs/world`.

Single frames come first, three steps in four (what the new objects look like, and that two of them stay apart is
seen in one frame), then clips, four steps in five. Half of the clips are given their own first frame. A run is seeded,
saves its whole state every few hundred steps and continues where it stopped; with another --steps it goes on longer,
or ends earlier, as the learning rate only falls over the last --decay-steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..corpus import FRAMES
from ..model import WEIGHTS, TinyModel
from ..train import Batch, Trainer, keep_training, parsed_config
from .corpus import random_clips
from .model import extended_model, first_frame_channels, load_world


@dataclass(frozen=True)
class WorldTrainConfig:
    seed: int = 0
    steps: int = 7500
    image_steps: int = 1600  # at the start, that mostly train on single frames
    decay_steps: int = 2500  # at the end, over which the learning rate falls linearly to zero
    image_batch: int = 40  # single frames
    video_batch: int = 5  # clips of 9 frames
    muon_lr: float = 0.015  # matrices inside the blocks
    adam_lr: float = 1.5e-3  # everything else
    caption_dropout: float = 0.1
    ema_decay: float = 0.998
    pool_size: int = 1200  # clips rendered at a time
    pool_steps: int = 300  # steps before a new pool is rendered
    two_share: float = 0.35  # of the clips that show two objects
    three_share: float = 0.0
    start: str = ""  # weights of an earlier world model to start from, instead of model 1's


def starting_model(config: WorldTrainConfig) -> TinyModel:
    """Model 1 extended to the world, or the world model in the file `config.start`."""
    if config.start:
        return load_world(Path(config.start))
    generator = torch.Generator().manual_seed(config.seed)
    frames = torch.cat([random_clips(150, things, generator)[2][:, ::4].flatten(0, 1) for things in (1, 2)])
    return extended_model(TinyModel.load(WEIGHTS), frames, generator)


class WorldBatches:
    """Batches of the world, clips or single frames, out of a pool of clips that is drawn anew every so often."""

    def __init__(self, model: TinyModel, config: WorldTrainConfig):
        self.model, self.config, self.index = model, config, -1

    def render_pool(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (pool, 24, 9, 8, 8) in bfloat16 and encodings (pool, 8, 64) of the pool with this index."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1000 + index + 1)
        two, three = (round(share * config.pool_size) for share in (config.two_share, config.three_share))
        latents, captions = [], []
        for things, count in ((1, config.pool_size - two - three), (2, two), (3, three)):
            if count:
                worlds, _, frames = random_clips(count, things, generator)
                latents.append(self.model.codec.encode(frames).bfloat16())
                captions += [world.caption for world in worlds]
        return torch.cat(latents), self.model.text.encode(captions)

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        config = self.config
        if step // config.pool_steps != self.index:
            self.index = step // config.pool_steps
            self.pool = self.render_pool(self.index)
        latents, encodings = self.pool
        images = step % 4 > 0 if step < config.image_steps else step % 5 == 0
        count = config.image_batch if images else config.video_batch
        chosen = torch.randint(len(latents), (count,), generator=generator)
        x0, text = latents[chosen].float(), encodings[chosen]
        if images:
            frame = torch.randint(FRAMES, (count,), generator=generator)
            x0 = x0[torch.arange(count), :, frame][:, :, None]
        told = torch.rand(count, generator=generator) >= config.caption_dropout
        shown = torch.rand(count, generator=generator) < (0.1 if images else 0.5)
        given = first_frame_channels(x0[:, :, :1], x0) * shown[:, None, None, None, None]
        return Batch(x0, text * told[:, None, None], given)


def main() -> None:
    prog = "python -m det_core.models.embedded.world.train"
    args, config = parsed_config(WorldTrainConfig, prog, __doc__.split("\n")[0])
    model = starting_model(config)
    keep_training(Trainer(model, WorldBatches(model, config), config, args.device), args.out, args.save_every)


if __name__ == "__main__":
    main()
