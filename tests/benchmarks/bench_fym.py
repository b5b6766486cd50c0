"""What Follow-Your-Motion's parts cost and how exact they are: head reading by rows, and sparse training steps.

    python tests/benchmarks/bench_fym.py --out tests/benchmarks/results/fym.json
    python tests/benchmarks/bench_fym.py --out fym-gpu.json --device cuda      # Wan 2.1 1.3B's size, random weights

Three measurements: how well 256 query rows agree with whole attention maps on the embedded DiT; the floating-point
operations of reading heads beside those of the forward it rides on, counted at the real models' sizes; the seconds of a
temporal training step on all 21 latent frames, on half of them and on the paper's 5, interleaved in one run.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path
from statistics import mean, median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from study_cases import study_case  # noqa: E402

from det_core.files import write_json  # noqa: E402
from det_core.fym.classify import classify_heads  # noqa: E402
from det_core.fym.heads import RULES, HeadMap  # noqa: E402
from det_core.fym.sparse import sparse_count, sparse_latents  # noqa: E402
from det_core.fym.train import LoRAConfig, group_lora, train_lora  # noqa: E402
from det_core.models.denoiser import DiffusersDenoiser  # noqa: E402
from det_core.models.embedded.base_model import EmbeddedModel  # noqa: E402
from det_core.models.embedded.model import TinyModel  # noqa: E402

SIZES = {  # blocks, width, tokens (with text, where it is in self-attention), feed-forward width
    "CogVideoX-5B, 49x480x720": (42, 3072, 17776, 12288),
    "HunyuanVideo, 49x512x768": (60, 3072, 20224, 12288),
    "Wan 2.1 1.3B, 81x480x832": (30, 1536, 32760, 8960),
    "Wan 2.1 14B, 81x480x832": (40, 5120, 32760, 13824),
}


def reading_cost(blocks: int, width: int, tokens: int, feed_forward: int, rows: int = 256) -> dict[str, float]:
    """Floating-point operations (two a multiply-add) of reading all heads, and of the forward that it rides on.

    The forward is projections, attention and MLP; Wan's cross-attention is left out, which makes the share larger.
    """
    reading = rows * tokens * width + 2 * rows * tokens * width // 64  # logits; two template sums a head of at least 64
    forward = tokens * width * (4 * width + 2 * feed_forward) + 2 * tokens**2 * width
    return {
        "reading_tflop": 2e-12 * blocks * reading,
        "forward_tflop": 2e-12 * blocks * forward,
        "share": reading / forward,
    }


def agreement(model: EmbeddedModel, motions: int) -> dict:
    """Share of heads that 256 rows put into the group whole maps put them into; the largest change of lean."""
    shares: dict[str, list[float]] = {rule: [] for rule in RULES}
    worst, seconds = 0.0, {"256 rows": [], "all rows": []}
    for index in range(motions):
        case = study_case(index)
        latents, cond = model.encode_video(case.clip.frames), model.encode_prompts([case.clip.scene.caption])
        maps = {}
        for name, rows in (("256 rows", 256), ("all rows", 10**6)):
            started = time.monotonic()
            maps[name] = classify_heads(model.denoiser, latents, cond, rows=rows, seed=index)
            seconds[name].append(time.monotonic() - started)
        few, whole = maps.values()
        for rule in RULES:
            same = few.with_rule(rule).is_temporal == whole.with_rule(rule).is_temporal
            shares[rule].append(same.float().mean().item())
        worst = max(worst, (few.lean - whole.lean).abs().max().item())
    return {
        "agreement": {rule: mean(values) for rule, values in shares.items()},
        "largest_change_of_lean": worst,
        "seconds": {name: median(values) for name, values in seconds.items()},
    }


def step_cost(width: int, heads: int, blocks: int, latent: tuple[int, int, int], device: str, repeats: int) -> dict:
    """Seconds of a temporal training step on a Wan with random weights: all frames and fewer, interleaved."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    sizes = {"num_attention_heads": heads, "attention_head_dim": width // heads, "ffn_dim": 4 * width}
    text = {"text_dim": 64, "freq_dim": 64}
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        transformer = WanTransformer3DModel(**sizes, **text, num_layers=blocks).to(dtype).requires_grad_(False)
    transformer.enable_gradient_checkpointing()
    denoiser = DiffusersDenoiser(transformer)
    heads_map = HeadMap("wan", torch.rand(blocks, heads), torch.rand(blocks, heads))
    latents = torch.randn(1, 16, *latent)
    cond = {"encoder_hidden_states": torch.randn(1, 32, 64, device=device, dtype=dtype)}
    config = LoRAConfig.for_stage(denoiser.spec, "temporal", steps=1, rank=32)
    counts = {"all": latent[0], "half": sparse_count(latent[0]), "paper": 5}
    sets = {f"{name}: {count} frames": sparse_latents(latents, count) for name, count in counts.items()}
    times: dict[str, list[float]] = {name: [] for name in sets}
    for _ in range(repeats + 1):
        for name, examples in sets.items():
            lora = group_lora(transformer, heads_map, "temporal", config)
            started = time.monotonic()
            train_lora(denoiser, lora, examples, cond, config)
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.monotonic() - started)
    seconds = {name: median(values[1:]) for name, values in times.items()}
    return {
        "model": {"width": width, "heads": heads, "blocks": blocks, "latent": latent, "device": device},
        "seconds": seconds,
        "range": {name: [min(values[1:]), max(values[1:])] for name, values in times.items()},
        "times_cheaper": {name: seconds[next(iter(sets))] / value for name, value in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--device", default="cpu", help="of the training steps: cpu (a small Wan) or cuda (the 1.3B's size)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="another embedded DiT than the shipped one")
    parser.add_argument("--quick", action="store_true", help="one motion, one repeat")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    repeats = 1 if args.quick else 5
    cuda = args.device == "cuda"
    cost = (
        step_cost(1536, 12, 30, (21, 60, 104), "cuda", repeats)
        if cuda
        else step_cost(192, 3, 4, (21, 20, 24), "cpu", repeats)
    )
    model = EmbeddedModel(tiny=TinyModel.load(args.weights) if args.weights else None)
    result = {
        "machine": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "reading": {name: reading_cost(*sizes) for name, sizes in SIZES.items()},
        "rows": agreement(model, 1 if args.quick else 6),
        "training_step": cost,
    }
    write_json(args.out, result)
    print(result)


if __name__ == "__main__":
    main()
