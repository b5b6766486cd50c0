"""The second file beside an adapter: all that is needed to continue a training exactly where it stopped."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..files import checked_json, copied, open_tensors, read_metadata, write_tensors

FORMAT = "det-train-state-1"
SUFFIX = ".state.safetensors"
LONGEST = 32 << 20  # bytes of the losses: half a million steps


@dataclass(frozen=True)
class TrainState:
    """Adapter weights, their average if one is kept, AdamW moments, random generator, step, losses and configuration,
    as plain tensors and JSON."""

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
        average: dict[str, torch.Tensor],
    ) -> TrainState:
        """Copy a run's state to the CPU.

        Args:
            random: state of the run's generator after its last step.
            config: what must be the same for resuming, of plain values.
            average: of the weights, by name; empty where none is kept.
        """
        tensors = {f"adapter.{name}": p for name, p in adapter.named_parameters()}
        tensors.update({f"average.{name}": p for name, p in average.items()})
        for index, moments in optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()})
        tensors["generator"] = random
        copies = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        return cls(copies, step, {name: list(values) for name, values in losses.items()}, _plain(config))

    def check(self, config: dict, *, free: Collection[str] = ()) -> None:
        """Raises: ValueError naming the settings that differ from this state's; those named in `free` may."""
        now = _plain(config)
        changed = [name for name in now if name not in free and self.config.get(name) != now[name]]
        if changed:
            named = "; ".join(f"{name} {self.config.get(name)} -> {now[name]}" for name in changed)
            device = " bf16 is as the device computes: resume on one like the first." if "bf16" in changed else ""
            raise ValueError(
                f"cannot resume: the earlier run had other settings ({named}). Start anew or restore them.{device}"
            )

    def restore(
        self, adapter: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> tuple[int, dict[str, list[float]]]:
        """Load this state into a fresh run; returns (step, losses).

        Raises: ValueError if it is of an adapter of another shape.
        """
        parameters = dict(adapter.named_parameters())
        saved, shapes = self._named("adapter."), {k: v.shape for k, v in parameters.items()}
        averaged = {k: v.shape for k, v in self.average.items()}
        if {k: v.shape for k, v in saved.items()} != shapes or not averaged.items() <= shapes.items():
            raise ValueError("cannot resume: the saved state belongs to another base model or another kernel size")
        moments = self._moments(optimizer.param_groups[0]["params"])
        try:
            generator.set_state(self.tensors["generator"].clone())
        except RuntimeError as error:
            raise ValueError(f"cannot resume: the saved state of the random generator is damaged: {error}") from None
        with torch.no_grad():
            for name, value in saved.items():
                parameters[name].copy_(value)
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return self.step, {name: list(values) for name, values in self.losses.items()}

    @property
    def average(self) -> dict[str, torch.Tensor]:
        """The average of the weights, by name; empty where none was kept."""
        return self._named("average.")

    @property
    def learned(self) -> dict[str, torch.Tensor]:
        """The weights to use, by name: the averages where there are any."""
        return self._named("adapter.") | self.average

    def _named(self, prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def _moments(self, trained: list[nn.Parameter]) -> dict[int, dict[str, torch.Tensor]]:
        """AdamW's state by parameter. Raises: ValueError if it is not that of these parameters."""
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in self.tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                moments.setdefault(int(index), {})[name] = value.clone()
        for index, found in moments.items():
            shape = trained[index].shape if index < len(trained) else None
            if {k: v.shape for k, v in found.items()} != {"step": (), "exp_avg": shape, "exp_avg_sq": shape}:
                raise ValueError(f"cannot resume: the saved moments of parameter {index} are damaged")
        return moments

    @property
    def learns_from(self) -> str:
        """The fingerprint of what it learns from."""
        return str(self.config.get("source", ""))

    def save(self, path: str | os.PathLike) -> None:
        """Write the state atomically as a safetensors file. Raises OSError with the path if it cannot be written."""
        metadata = {
            "format": FORMAT,
            "step": str(self.step),
            "losses": json.dumps(self.losses),
            "config": json.dumps(self.config),
        }
        write_tensors(path, self.tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike) -> TrainState:
        """Read a state. Raises ValueError, one line with the path, if it is missing, damaged or something else."""
        try:
            with open_tensors(path) as file:
                metadata = _checked_metadata(path, file.metadata() or {})
                state = cls(copied(file), *metadata)
        except ValueError as error:
            raise ValueError(f"cannot resume: {error}") from None
        if wrong := _wrong_with(state.tensors):
            raise ValueError(f"cannot resume: {path} is damaged: {wrong}")
        return state


def state_path(adapter: Path, learns_from: str) -> Path:
    """Where the training of an adapter file keeps its state: beside it, as `<name>.state.safetensors`, or with the
    fingerprint in its name where that is the state of another training, which must not be lost."""
    plain = adapter.with_name(adapter.stem + SUFFIX)
    own = adapter.with_name(f"{adapter.stem}.{learns_from}{SUFFIX}")
    return own if own.exists() or (plain.exists() and _learns_from(plain) != learns_from) else plain


def states_of(adapter: Path) -> list[Path]:
    """The states that trainings of an adapter file have left beside it."""
    ours = re.compile(rf"{re.escape(adapter.stem)}(\.[0-9a-f]+)?{re.escape(SUFFIX)}")
    return sorted(file for file in adapter.parent.glob(f"*{SUFFIX}") if ours.fullmatch(file.name))


def _learns_from(path: Path) -> str | None:
    """The fingerprint in a state's file, None where the file cannot be read."""
    try:
        _, _, config = _checked_metadata(path, read_metadata(path))
    except ValueError:
        return None
    return config.get("source")


def _checked_metadata(path: str | os.PathLike, metadata: dict[str, str]) -> tuple[int, dict[str, list[float]], dict]:
    """Step, losses and configuration of a state's file. Raises ValueError that names it."""
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a training state of this pack")
    if not re.fullmatch("[0-9]{1,9}", metadata.get("step", "")):
        raise ValueError(f'{path} is damaged: its step is "{metadata.get("step", "")[:20]}"')
    losses = checked_json(path, "losses", metadata.get("losses", ""), limit=LONGEST)
    config = checked_json(path, "configuration", metadata.get("config", ""))
    if not isinstance(config, dict) or "steps" not in config:
        raise ValueError(f"{path} is damaged: it has no configuration")
    step = int(metadata["step"])
    if not isinstance(losses, dict) or not all(_is_curve(values, step) for values in losses.values()):
        raise ValueError(f"{path} is damaged: its losses are not one number for each of its {step} steps")
    return step, losses, config


def _is_curve(values: object, step: int) -> bool:
    return isinstance(values, list) and len(values) == step and all(type(v) in (float, int) for v in values)


def _wrong_with(tensors: dict[str, torch.Tensor]) -> str | None:
    generator = tensors.get("generator")
    if generator is None or generator.dtype != torch.uint8 or generator.shape != torch.Generator().get_state().shape:
        return "it has no state of a random generator"
    for name, tensor in tensors.items():
        if name == "generator":
            continue
        if not re.fullmatch(r"(adapter|average)\..+|optimizer\.[0-9]{1,6}\.(step|exp_avg|exp_avg_sq)", name):
            return f'a state has no tensor "{name[:60]}"'
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            return f'"{name}" holds numbers that are not finite'
    return None


def _plain(config: dict) -> dict:
    """The configuration as JSON gives it back (tuples become lists), so that two can be compared."""
    return json.loads(json.dumps(config))
