"""The second file beside an adapter: all that is needed to continue a training exactly where it stopped."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..files import atomic_write

FORMAT = "det-train-state-1"


@dataclass(frozen=True)
class TrainState:
    """Adapter weights, AdamW moments, random generator, step, losses and configuration, as plain tensors and JSON."""

    tensors: dict[str, torch.Tensor]
    step: int
    losses: dict[str, list[float]]
    config: dict

    @classmethod
    def capture(
        cls,
        adapter: nn.Module,
        optimizer: torch.optim.Optimizer,
        random: torch.Tensor,
        step: int,
        losses: dict[str, list[float]],
        config: dict,
    ) -> TrainState:
        """Copy a run's state to the CPU.

        Args:
            random: state of the run's generator after its last step.
            config: what must be the same for resuming, of plain values.
        """
        tensors = {f"adapter.{name}": p for name, p in adapter.named_parameters()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()})
        tensors["generator"] = random
        copies = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        return cls(copies, step, {name: list(values) for name, values in losses.items()}, _plain(config))

    def check(self, config: dict, *, free: Collection[str] = ()) -> None:
        """Raises: ValueError naming the settings that differ from this state's; those named in `free` may."""
        now = _plain(config)
        changed = [
            f"{k} {self.config.get(k)} -> {now[k]}" for k in now if k not in free and self.config.get(k) != now[k]
        ]
        if changed:
            raise ValueError(
                f"cannot resume: the earlier run had other settings ({'; '.join(changed)}). Start anew or restore them."
            )

    def restore(
        self, adapter: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> tuple[int, dict[str, list[float]]]:
        """Load this state into a fresh run; returns (step, losses).

        Raises: ValueError if it is of an adapter of another shape.
        """
        parameters = dict(adapter.named_parameters())
        saved = {k.removeprefix("adapter."): v for k, v in self.tensors.items() if k.startswith("adapter.")}
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in parameters.items()}:
            raise ValueError("cannot resume: the saved state belongs to another base model or another kernel size")
        with torch.no_grad():
            for name, value in saved.items():
                parameters[name].copy_(value)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in self.tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                moments.setdefault(int(index), {})[name] = value.clone()
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        generator.set_state(self.tensors["generator"].clone())
        return self.step, {name: list(values) for name, values in self.losses.items()}

    def save(self, path: str | Path) -> None:
        """Write the state atomically as a safetensors file."""
        from safetensors.torch import save_file

        metadata = {
            "format": FORMAT,
            "step": str(self.step),
            "losses": json.dumps(self.losses),
            "config": json.dumps(self.config),
        }
        with atomic_write(path) as temporary:
            save_file({k: v.contiguous() for k, v in self.tensors.items()}, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> TrainState:
        """Read a state. Raises ValueError if the file is damaged or something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"cannot resume from {path}: {error}") from error
        if metadata.get("format") != FORMAT:
            raise ValueError(f"cannot resume from {path}: it is not a training state of this pack")
        return cls(tensors, int(metadata["step"]), json.loads(metadata["losses"]), json.loads(metadata["config"]))


def _plain(config: dict) -> dict:
    """The configuration as JSON gives it back (tuples become lists), so that two can be compared."""
    return json.loads(json.dumps(config))
