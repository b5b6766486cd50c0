"""The motion of one video, learned: one temporal kernel a block, and the file that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..models.families import DiTSpec, format_blocks
from .beside_attention import BesideAttention
from .file import read_adapter, read_metadata, read_reference, write_adapter
from .temporal_kernel import TemporalKernel


class MotionAdapter(BesideAttention):
    """Temporal kernels beside the attention of a DiT's blocks.      (DeT, arXiv 2503.17350, section 3.2)

    Attributes:
        kernels:  {block number: TemporalKernel}; tensors are named `blocks.{i}.down.weight` and `blocks.{i}.up.weight`.
        metadata: free text fields that travel in the file (source, caption, config, losses, seed, ...), str -> str.
            `kept_blocks` ("0-14") are the blocks that are advised for sampling.
    """

    def __init__(self, base_model: str, num_blocks: int, kernels: Mapping[int, TemporalKernel]):
        """base_model: `DiTSpec.name` of the model it fits; num_blocks: how many blocks that model has."""
        super().__init__(base_model, num_blocks, next(iter(kernels.values())).dim, kernels)

    @classmethod
    def create(
        cls,
        spec: DiTSpec,
        mid_dim: int | None = None,
        kernel_size: int | None = None,
        *,
        drop_fraction: float | None = None,
        generator: torch.Generator | None = None,
    ) -> MotionAdapter:
        """A new adapter for all blocks of a base model, which changes nothing until it is trained.

        None for `mid_dim`, `kernel_size` and `drop_fraction`, of the blocks, that it advises to drop when sampling,
        means the base model's default. `generator` must be a CPU one.
        """
        defaults = spec.defaults
        kernels = {
            index: TemporalKernel(
                spec.dim,
                defaults.mid_dim if mid_dim is None else mid_dim,
                defaults.kernel_size if kernel_size is None else kernel_size,
                init_std=defaults.init_std,
                generator=generator,
            )
            for index in range(spec.num_blocks)
        }
        adapter = cls(spec.name, spec.num_blocks, kernels)
        adapter.advise(spec, drop_fraction)
        if spec.version:
            adapter.metadata["base_version"] = spec.version
        return adapter

    @property
    def kernel(self) -> TemporalKernel:
        """Any one kernel: all have the same dim, mid_dim and kernel_size."""
        return next(iter(self.kernels.values()))

    def of_experts(self, names: Sequence[str]) -> dict[str, MotionAdapter]:
        """The adapters of the experts whose blocks take turns in this one, each for its own model alone. Metadata says
        which `expert` one is for."""
        count, apart = len(names), {}
        for first, name in enumerate(names):
            kernels = {block // count: kernel for block, kernel in self.kernels.items() if block % count == first}
            apart[name] = MotionAdapter(self.base_model, self.num_blocks // count, kernels)
            kept = [block // count for block in self.keep if block % count == first]
            apart[name].metadata |= {**self.metadata, "kept_blocks": format_blocks(kept), "expert": name}
        return apart

    def save(self, path: str | Path) -> None:
        """Write the adapter atomically as one .safetensors file: tensors in their own dtype, metadata as text."""
        kernel = self.kernel
        structure = {
            "base_model": self.base_model,
            "num_blocks": str(self.num_blocks),
            "dim": str(kernel.dim),
            "mid_dim": str(kernel.mid_dim),
            "kernel_size": str(kernel.kernel_size),
        }
        write_adapter(path, self.state_dict(), {**self.metadata, **structure})

    @classmethod
    def load(cls, path: str | Path) -> MotionAdapter:
        """Read an adapter onto the CPU. Raises ValueError, with the path, for anything that is not a whole adapter."""
        tensors, metadata = read_adapter(path)
        adapter = cls._from_tensors(metadata.pop("base_model"), int(metadata.pop("num_blocks")), tensors)
        adapter.metadata.update({k: v for k, v in metadata.items() if k not in ("dim", "mid_dim", "kernel_size")})
        return adapter

    @classmethod
    def from_reference(cls, path: str | Path, spec: DiTSpec | None = None) -> MotionAdapter:
        """Import `motion_embedding.pth` of the paper's released code; nothing in the file is ever executed.

        spec: the base model it was trained on; without it, a CogVideoX with as many blocks as the file has.
        Raises: ValueError if the file is no such file, or does not fit `spec`.
        """
        tensors = read_reference(path, first_single=_first_single(spec) if spec else None)
        last = max(int(name.split(".")[1]) for name in tensors)
        if spec and last >= spec.num_blocks:
            raise ValueError(f"{path} has block {last}, but the model is {spec.describe()}")
        adapter = cls._from_tensors(spec.name if spec else "cogvideox", spec.num_blocks if spec else last + 1, tensors)
        if spec and adapter.kernel.dim != spec.dim:
            raise ValueError(f"{path} is for {adapter.kernel.dim} channels, but the model is {spec.describe()}")
        if spec:
            adapter.advise(spec)
        adapter.metadata["imported_from"] = Path(path).name
        return adapter

    @classmethod
    def _from_tensors(cls, base_model: str, num_blocks: int, tensors: dict[str, torch.Tensor]) -> MotionAdapter:
        kernels = {}
        for index in sorted({int(name.split(".")[1]) for name in tensors}):
            down, up = tensors[f"blocks.{index}.down.weight"], tensors[f"blocks.{index}.up.weight"]
            kernels[index] = TemporalKernel.from_weights(down, up)
        return cls(base_model, num_blocks, kernels)


def metadata_of(path: str | Path) -> dict[str, str]:
    """The metadata of an adapter file, its tensors left on the disk. Raises ValueError as `MotionAdapter.load` does."""
    return read_metadata(path)


def _first_single(spec: DiTSpec) -> int:
    """Index of the first fused (single-stream) block."""
    return sum("single" not in tap.input for tap in spec.taps)
