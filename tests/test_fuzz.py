"""Damaged files of every kind that is read: a ValueError of one line, soon, in little memory, or it still loads."""

import random
import resource
import time

import pytest
import torch

from det_core.adapter.motion_adapter import MotionAdapter, metadata_of
from det_core.adapter.temporal_kernel import TemporalKernel
from det_core.media.video import read_video, write_video
from det_core.tracking.tracks import Tracks
from det_core.training.loop import TrainConfig
from det_core.training.run import TrainingRun
from det_core.training.state import TrainState

SECONDS, BYTES = 2, 500_000_000


def adapter(path):
    kernels = {i: TemporalKernel(8, 4, 3, generator=torch.Generator().manual_seed(i)) for i in range(3)}
    made = MotionAdapter("wan", 3, kernels)
    made.metadata |= {"kept_blocks": "0-1", "caption": "a clip"}
    made.save(path)


def state(path):
    module = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(4)).sum().backward()
    optimizer.step()
    run = TrainingRun(module, TrainConfig(), optimizer, torch.Generator().manual_seed(0), "0123456789abcdef", step=1)
    run.reader.losses["total"] = [0.5]
    run.state().save(path)


def tracks(path):
    Tracks(torch.rand(5, 7, 2), torch.rand(5, 7) > 0.3, "dis").save(path)


def tracks_pth(path):
    torch.save(torch.rand(7, 5, 3), path)


def reference(path):
    name = "transformer_blocks.{}.attn1.processor.temporal_emb.conv{}.weight"
    shapes = {1: (4, 8, 3), 2: (8, 4, 3)}
    torch.save({name.format(i, c): torch.rand(shapes[c]) for i in range(2) for c in (1, 2)}, path)


def video(path):
    write_video(path, torch.rand(5, 16, 16, 3), 8.0)


KINDS = {
    "adapter.safetensors": (adapter, MotionAdapter.load),
    "metadata.safetensors": (adapter, metadata_of),
    "state.safetensors": (state, TrainState.load),
    "tracks.safetensors": (tracks, Tracks.load),
    "tracks.npz": (tracks, Tracks.load),
    "tracks.pth": (tracks_pth, Tracks.load),
    "motion_embedding.pth": (reference, MotionAdapter.from_reference),
    "video.mp4": (video, read_video),
}


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """Some bytes, digits or brackets changed, most often where the header is; cut; or a piece repeated."""
    data = bytearray(whole)
    reach = draw.choice([16, 200, 800, len(data)])
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(min(reach, len(data)))
        how = draw.randrange(5)
        if how == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            data[at] = draw.choice(b'09-[]{}",:\x00\xff')
        elif how == 2:
            del data[at : at + draw.choice([1, 8, 100])]
        elif how == 3:
            data[at:at] = data[at : at + draw.choice([1, 8, 100])]
        else:
            data[at : at + 8] = draw.randbytes(8)
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_refused_in_one_line(tmp_path, name, count):
    make, read = KINDS[name]
    path = tmp_path / name
    torch.manual_seed(0)
    make(path)
    whole, refused = path.read_bytes(), 0
    read(path)
    for seed in range(count):
        path.write_bytes(damaged(whole, random.Random(seed)))
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            read(path)
        except ValueError as error:
            refused += 1
            assert name in str(error) and "\n" not in str(error), f"seed {seed}: {error}"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        assert time.process_time() - started < SECONDS, f"seed {seed} takes too long"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown * 1024 < BYTES, f"seed {seed} takes {grown} kB"
    assert refused > count // (20 if name == "video.mp4" else 4), "most damage is noticed"
