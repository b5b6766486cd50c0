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
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

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


class Trainer:
    """The state of a training: float32 weights, a bfloat16 copy to compute with, two optimisers, averaged weights."""

    def __init__(self, config: TinyTrainConfig, device: str):
        self.config, self.device = config, device
        self.model = fresh_model(config)
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
        self.pool_index = -1

    def learning_rate_factor(self) -> float:
        warm_up = min(1.0, (self.step + 1) / 100)
        decay_steps = self.config.decay_share * self.config.steps
        return warm_up * min(1.0, (self.config.steps - self.step) / decay_steps)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Clean latents (B, 16, T, 8, 8), T = 1 or 9, and their encodings."""
        config = self.config
        if self.step // config.pool_steps != self.pool_index:
            self.pool_index = self.step // config.pool_steps
            self.pool = render_pool(self.model, config, self.pool_index)
        latents, encodings = self.pool
        images = self.step < config.image_steps or self.step % round(1 / config.image_share) == 0
        count = config.image_batch if images else config.video_batch
        chosen = torch.randint(len(latents), (count,), generator=self.generator)
        x0, cond = latents[chosen].float(), encodings[chosen]
        if images:
            frame = torch.randint(FRAMES, (count,), generator=self.generator)
            x0 = x0[torch.arange(count), :, frame][:, :, None]
        dropped = torch.rand(count, generator=self.generator) < config.caption_dropout
        return x0, cond * ~dropped[:, None, None]

    def train_step(self) -> float:
        x0, cond = self.batch()
        # Timesteps are drawn towards noise, where the layout of a video is decided.
        u = torch.rand(len(x0), generator=self.generator)
        t = (1000 * u**0.7).long().clamp(max=999)
        noise = torch.randn(x0.shape, generator=self.generator)
        x0, cond, t, noise = (v.to(self.device) for v in (x0, cond, t, noise))
        alpha = self.alphas[t][:, None, None, None, None]
        noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        velocity = self.compute(noisy.transpose(1, 2).bfloat16(), cond.bfloat16(), t, return_dict=False)[0].transpose(
            1, 2
        )
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


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m det_core.models.embedded.train", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for state.pt, weights.safetensors and log.txt")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--save-every", type=int, default=200, help="steps between saved states")
    for name, kind in TinyTrainConfig.__annotations__.items():
        default = getattr(TinyTrainConfig, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=eval_kind(kind), default=default, help=f"default {default}"
        )
    args = parser.parse_args()
    config = TinyTrainConfig(**{name: getattr(args, name) for name in TinyTrainConfig.__annotations__})
    args.out.mkdir(parents=True, exist_ok=True)

    trainer = Trainer(config, args.device)
    state_file = args.out / "state.pt"
    if state_file.exists():
        trainer.load_state(torch.load(state_file, weights_only=True, map_location=args.device))

    def save() -> None:
        temporary = state_file.with_suffix(".tmp")
        torch.save(trainer.state(), temporary)
        os.replace(temporary, state_file)
        save_weights(trainer.averaged_model(), args.out / "weights.safetensors")

    recent: list[float] = []
    started = time.monotonic()
    with tqdm(total=config.steps, initial=trainer.step, unit="step", mininterval=5) as bar:
        while trainer.step < config.steps:
            recent = [*recent[-99:], trainer.train_step()]
            bar.update()
            if trainer.step % 20 == 0:
                bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}")
            if trainer.step % args.save_every == 0 or trainer.step == config.steps:
                save()
                with open(args.out / "log.txt", "a") as log:
                    seconds = time.monotonic() - started
                    log.write(f"step {trainer.step} loss {sum(recent) / len(recent):.4f} seconds {seconds:.0f}\n")


def eval_kind(kind: str) -> type:
    return {"int": int, "float": float}[kind]


if __name__ == "__main__":
    main()
