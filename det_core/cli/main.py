"""`python -m det_core`: transfer, track, train, sample, evaluate, bench, annotate, a file each.

Every command checks all it is given before it loads anything; a mistake is answered in one line.
"""

from __future__ import annotations

import argparse
import logging
import sys

import torch
from safetensors import SafetensorError

from . import annotate, bench, evaluate, sample, track, train, transfer
from .arguments import Parser
from .progress import Stopped

DESCRIPTION = "Learn the motion of one video and replay it on any subject and scene that a prompt asks for."
COMMANDS = (transfer, track, train, sample, evaluate, bench, annotate)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 after a one-line error, 130 after Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "diffusers", "transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console or pipe may not have a name's characters
    args = None
    try:
        args = build_parser().parse_args(argv)
        args.run(args)
    except (MemoryError, torch.OutOfMemoryError) as error:
        return _failed(f"out of memory: use {_smaller(args)} ({_line(error) or 'no more could be had'})")
    except (ValueError, OSError, SafetensorError) as error:
        return _failed(_line(error))
    except RuntimeError as error:
        if not _is_of_the_device(error):
            raise
        return _failed(f"the device failed: {_line(error)}")
    except (Stopped, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m det_core", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        own = commands.add_parser(name, help=command.HELP)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser


def _smaller(args: argparse.Namespace | None) -> str:
    """What a command can do with less memory."""
    cures = {
        "preset": "--preset low_vram",
        "low_vram": "--low-vram",
        "size": "a smaller --size",
        "frames": "fewer --frames",
    }
    found = [cure for name, cure in cures.items() if hasattr(args, name)]
    return " or ".join(found) or "a shorter or a smaller video"


def _failed(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 1


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _is_of_the_device(error: RuntimeError) -> bool:
    """Whether a GPU or its driver said so, and not a mistake of ours."""
    return any(word in str(error) for word in ("CUDA error", "CUDA driver", "MPS backend", "NVIDIA driver"))
