"""Train the embedded DiT from nothing: `python -m det_core.models.embedded.train --out runs/tiny`.

Images come first (single frames teach what sprites and backgrounds look like), then videos (which teach that a sprite
stays itself while it moves). Muon drives the matrices of the blocks and AdamW the rest; the weights that are kept are
an exponential moving average. A run is seeded, saves its whole state every few minutes and continues where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..compute.precision import Compute
from .codec import PatchCodec
from .corpus import FRAMES, Scene, random_clip
from .model import TinyModel, build_scheduler, build_transformer
from .text import WordEncoder


@dataclass(frozen=True)
class TinyTrainConfig:
    seed: int = 0
    image_steps: int = 2400
    video_steps: int = 4400
    image_batch: int = 64  # single frames
    video_batch: int = 8  # clips of 9 frames
    image_share: float = 0.2  # of the steps of the video stage that still train on single frames
    muon_lr: float = 0.02  # matrices inside the blocks
    adam_lr: float = 2e-3  # everything else
    decay_share: float = 0.35  # of all steps, over which the learning rate falls linearly to zero
    caption_dropout: float = 0.1
    ema_decay: float = 0.998
    pool_size: int = 8000  # clips rendered at a time
    pool_steps: int = 1500  # steps before a new pool is rendered

    @property
    def steps(self) -> int:
        return self.image_steps + self.video_steps

    @property
    def decay_steps(self) -> float:
        return self.decay_share * self.steps


def fresh_model(config: TinyTrainConfig) -> TinyModel:
    """Random transformer weights, the fitted codec, the word table: all from the seed."""
    generator = torch.Generator().manual_seed(config.seed)
    clips = [random_clip(generator, Scene.training()) for _ in range(400)]
    codec = PatchCodec.fit(torch.cat([clip.frames[::4] for clip in clips]))
    text = WordEncoder.create(generator)
    torch.manual_seed(config.seed)
    return TinyModel(build_transformer(), codec, text)


def render_pool(model: TinyModel, config: TinyTrainConfig, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (pool, 16, 9, 8, 8) in bfloat16 and encodings (pool, 8, 64) of the pool with this index."""
    generator = torch.Generator().manual_seed(config.seed * 1000 + index + 1)
    scenes = Scene.training()
    latents, captions = [], []
    for _ in range(config.pool_size):
        clip = random_clip(generator, scenes)
        latents.append(model.codec.encode(clip.frames[None])[0].bfloat16())
        captions.append(clip.scene.caption)
    return torch.stack(latents), model.text.encode(captions)


@dataclass(frozen=True)
class Batch:
    """What one step learns from: clean latents (B, C, T, h, w), encodings (B, 8, 64), and latents like the clean ones
    that the model is given beside the noisy ones, or None."""

    x0: torch.Tensor
    text: torch.Tensor
    given: torch.Tensor | None = None


class SpriteBatches:
    """Batches of the corpus of one sprite: single frames first, then clips."""

    def __init__(self, model: TinyModel, config: TinyTrainConfig):
        self.model, self.config, self.index = model, config, -1

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        config = self.config
        if step // config.pool_steps != self.index:
            self.index = step // config.pool_steps
            self.pool = render_pool(self.model, config, self.index)
        latents, encodings = self.pool
        images = step < config.image_steps or step % round(1 / config.image_share) == 0
        count = config.image_batch if images else config.video_batch
        chosen = torch.randint(len(latents), (count,), generator=generator)
        x0, cond = latents[chosen].float(), encodings[chosen]
        if images:
            frame = torch.randint(FRAMES, (count,), generator=generator)
            x0 = x0[torch.arange(count), :, frame][:, :, None]
        dropped = torch.rand(count, generator=generator) < config.caption_dropout
        return Batch(x0, cond * ~dropped[:, None, None])


class Trainer:
    """The state of a training: float32 weights, a bfloat16 copy to compute with, two optimisers, averaged weights.

    config needs seed, steps, decay_steps, muon_lr, adam_lr and ema_decay; batches needs `batch(step, generator)`.
    """

    def __init__(self, model: TinyModel, batches, config, device: str):
        self.model, self.batches, self.config, self.device = model, batches, config, device
        self.master = self.model.transformer.to(device)
        self.compute = copy.deepcopy(self.master).bfloat16()
        self.average = copy.deepcopy(self.master).requires_grad_(False)
        named = list(self.master.named_parameters())
        matrices = [p for n, p in named if p.ndim == 2 and n.startswith("transformer_blocks.")]
        rest = [p for n, p in named if not (p.ndim == 2 and n.startswith("transformer_blocks."))]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=config.muon_lr, momentum=0.95, weight_decay=0.0),
            torch.optim.AdamW(rest, lr=config.adam_lr, betas=(0.9, 0.99), weight_decay=0.0),
        ]
        self.alphas = build_scheduler().alphas_cumprod.float().to(device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.step = 0

    def learning_rate_factor(self) -> float:
        warm_up = min(1.0, (self.step + 1) / 100)
        return warm_up * min(1.0, (self.config.steps - self.step) / self.config.decay_steps)

    def train_step(self) -> float:
        batch = self.batches.batch(self.step, self.generator)
        x0, cond = batch.x0, batch.text
        # Timesteps are drawn towards noise, where the layout of a video is decided.
        u = torch.rand(len(x0), generator=self.generator)
        t = (1000 * u**0.7).long().clamp(max=999)
        noise = torch.randn(x0.shape, generator=self.generator)
        x0, cond, t, noise = (v.to(self.device) for v in (x0, cond, t, noise))
        alpha = self.alphas[t][:, None, None, None, None]
        noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        seen = noisy if batch.given is None else torch.cat([noisy, batch.given.to(self.device)], 1)
        velocity = self.compute(seen.transpose(1, 2).bfloat16(), cond.bfloat16(), t, return_dict=False)[0]
        velocity = velocity.transpose(1, 2)
        loss = F.mse_loss(velocity.float(), target)
        loss.backward()
        for master, compute in zip(self.master.parameters(), self.compute.parameters(), strict=True):
            master.grad = None if compute.grad is None else compute.grad.float()
            compute.grad = None
        torch.nn.utils.clip_grad_norm_(self.master.parameters(), 1.0)
        factor = self.learning_rate_factor()
        for optimizer, lr in zip(self.optimizers, (self.config.muon_lr, self.config.adam_lr), strict=True):
            optimizer.param_groups[0]["lr"] = lr * factor
            optimizer.step()
        with torch.no_grad():
            decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
            for average, master, compute in zip(
                self.average.parameters(), self.master.parameters(), self.compute.parameters(), strict=True
            ):
                average.lerp_(master, 1 - decay)
                compute.copy_(master)
        self.step += 1
        return loss.item()

    def state(self) -> dict:
        return {
            "config": asdict(self.config),
            "step": self.step,
            "master": self.master.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "generator": self.generator.get_state(),
        }

    def load_state(self, state: dict) -> None:
        self.step = state["step"]
        self.master.load_state_dict(state["master"])
        self.average.load_state_dict(state["average"])
        self.compute.load_state_dict(state["master"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])

    def averaged_model(self) -> TinyModel:
        return TinyModel(copy.deepcopy(self.average).float().cpu().eval(), self.model.codec, self.model.text)


def save_weights(model: TinyModel, path: Path) -> None:
    """Write the model's tensors as a float16 safetensors file (the codec and the word table stay float32)."""
    from safetensors.torch import save_file

    tensors = {k: (v.half() if k.startswith("transformer.") else v).contiguous() for k, v in model.tensors().items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"format_version": "1", "model": "embedded-dit"})
    os.replace(temporary, path)


def keep_training(trainer: Trainer, out: Path, save_every: int) -> None:
    """Train to the last step, from the state in `out` where there is one; every `save_every` steps the state, the
    averaged weights and a line of the log are written."""
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / "state.pt"
    if state_file.exists():
        trainer.load_state(torch.load(state_file, weights_only=True, map_location=trainer.device))
    recent: list[float] = []
    started = time.monotonic()
    with tqdm(total=trainer.config.steps, initial=trainer.step, unit="step", mininterval=5) as bar:
        while trainer.step < trainer.config.steps:
            recent = [*recent[-99:], trainer.train_step()]
            bar.update()
            if trainer.step % 20 == 0:
                bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}")
            if trainer.step % save_every == 0 or trainer.step == trainer.config.steps:
                temporary = state_file.with_suffix(".tmp")
                torch.save(trainer.state(), temporary)
                os.replace(temporary, state_file)
                save_weights(trainer.averaged_model(), out / "weights.safetensors")
                with open(out / "log.txt", "a") as log:
                    seconds = time.monotonic() - started
                    log.write(f"step {trainer.step} loss {sum(recent) / len(recent):.4f} seconds {seconds:.0f}\n")


def parsed_config(config_class, prog: str, summary: str) -> tuple[argparse.Namespace, object]:
    """The command line of a training: where and how it runs, and a config with an option for every field."""
    parser = argparse.ArgumentParser(prog=prog, description=summary)
    parser.add_argument("--out", type=Path, required=True, help="folder for state.pt, weights.safetensors and log.txt")
    parser.add_argument("--device", default=str(Compute.on().device))
    parser.add_argument("--save-every", type=int, default=200, help="steps between saved states")
    for field in fields(config_class):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            help=f"default {field.default}",
        )
    args = parser.parse_args()
    return args, config_class(**{field.name: getattr(args, field.name) for field in fields(config_class)})


def main() -> None:
    args, config = parsed_config(TinyTrainConfig, "python -m det_core.models.embedded.train", __doc__.split("\n")[0])
    model = fresh_model(config)
    keep_training(Trainer(model, SpriteBatches(model, config), config, args.device), args.out, args.save_every)


if __name__ == "__main__":
    main()
