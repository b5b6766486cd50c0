"""Compile the Triton kernels ahead of time, without a GPU, and print what they take of one: a JSON list on stdout.

    python tests/kernel_resources.py cuda:80 bf16 5

A program of its own, since a process whose Triton interprets cannot compile.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[1]))
from det_core.kernels import shift_triton  # noqa: E402

KERNELS = ((shift_triton._add, "GELU"), (shift_triton._gather, "SLOPE"))
POINTERS = {"wide", "narrow", "before", "out"}


def compiled(kernel, flag: str, on: bool, backend: str, arch: str, dtype: str, steps: int, width: int):
    """The kernel as a launch at this width specialises it: pointers and the width are multiples of 16."""
    names = kernel.arg_names
    constants = {**shift_triton._blocks(width), "STEPS": steps, flag: on}
    kinds = {name: f"*{dtype}" if name in POINTERS else "i32" for name in names if name not in constants}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in POINTERS | {"width"}}
    source = ASTSource(kernel, {**kinds, **dict.fromkeys(constants, "constexpr")}, constants, aligned)
    target = GPUTarget(backend, int(arch) if backend == "cuda" else arch, 32 if backend == "cuda" else 64)
    return triton.compile(source, target=target)


def resources(assembly: dict) -> dict[str, int]:
    """Registers a thread, and bytes (AMD: registers) that did not fit and went to memory."""
    if "amdgcn" in assembly:
        text = assembly["amdgcn"]
        found = {
            name: int(re.search(rf"\.{name}:\s+(\d+)", text).group(1)) for name in ("vgpr_count", "vgpr_spill_count")
        }
        return {"registers": found["vgpr_count"], "spilled": found["vgpr_spill_count"]}
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(assembly["cubin"])
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {"registers": int(re.search(r"REG:(\d+)", text)[1]), "spilled": int(re.search(r"STACK:(\d+)", text)[1])}


def main(target: str, dtype: str, steps: int) -> None:
    backend, arch = target.split(":")
    rows = []
    for width in (128, 256):
        for kernel, flag in KERNELS:
            for on in (False, True):
                assembly = compiled(kernel, flag, on, backend, arch, dtype, steps, width).asm
                rows.append({"kernel": kernel.__name__, flag: on, "width": width, **resources(assembly)})
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
