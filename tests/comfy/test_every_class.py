"""Every video class of ComfyUI 0.33, as people use it: each node works on it, or the first that sees it refuses it with
a sentence; never a word of torch's, never an adapter that does nothing; and the base model stays as it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from small_models import CASES, EVERY_FORM
from small_weights import randomly
from untouched import digest
from walk import NODES, WORKS, an_adapter, applied, sampled, trained, walked

ROOT = Path(__file__).resolve().parents[2]


_PICTURE, _STEERS, _REFERENCE = "the caption's conditioning holds none", "steers every frame", "has reference, pose or"
_UNKNOWN = "which motion adapters do not work on: .* is not a model that motion adapters know; supported are"
# What is refused, by the first node that sees it: a piece of the sentence. The nodes after "heads" need its result.
REFUSED: dict[str, dict[str, str]] = {
    "Wan 2.1 I2V without a picture": {"train": _PICTURE, "heads": _PICTURE},
    "Wan 2.2 A14B I2V without a picture": {"train": _PICTURE, "heads": _PICTURE},
    "Wan Fun Control": {"heads": _STEERS},
    "Wan Fun Control with a reference": {"heads": _REFERENCE},
    "Wan Phantom": {"heads": _REFERENCE},
    "Wan Bernini": {"heads": _REFERENCE},
    "Wan VACE with control": {"heads": _STEERS},
    "Wan VACE with a reference": {"heads": _STEERS},
    "Wan 2.1 Fun Camera": {"heads": _STEERS},
    "Wan 2.2 Fun Camera": {"heads": _STEERS},
    "Wan HuMo with sound": {"heads": _STEERS},
    "Wan HuMo with sound and a reference": {"heads": _STEERS},
    "Wan S2V with sound": {"heads": _STEERS},
    "Wan S2V with sound, reference and motion": {"heads": _STEERS},
    "Wan Animate": {"train": "first latent frame of Wan Animate", "heads": "first latent frame of Wan Animate"},
    "Wan Animate 2": dict.fromkeys(NODES[:3], "computes the video and its pose in one attention"),
    "Wan FlowRVS": dict.fromkeys(NODES[:3], "does not make a video out of noise"),
    "Wan SCAIL with a pose and a reference": {"heads": _STEERS},
    "Wan SCAIL-2 with a pose and a reference": {"heads": _STEERS},
    "WanDancer with sound": {"heads": _STEERS},
    "HunyuanVideo I2V without a picture": {"train": _PICTURE, "heads": _PICTURE},
    "HunyuanVideo with a reference": {"heads": _REFERENCE},
    "HunyuanImage 2.1 refiner": dict.fromkeys(NODES[:3], "makes pictures"),
    "HunyuanImage 2.1": dict.fromkeys(NODES[:3], "makes images, not videos"),
    "LTX-Video with guides": {"train": "has guide frames", "heads": "has guide frames"},
    "LTX-2.3 with guides": {"train": "has guide frames", "heads": "has guide frames"},
    "CogVideoX, loaded by Load Diffusion Model": dict.fromkeys(NODES[:3], "samples it wrongly .* Load DiT"),
    "CogVideoX 5B I2V": {"heads": "has learned positions"},
    "CogVideoX 5B I2V without a picture": {"train": _PICTURE, "heads": _PICTURE},
    "CogVideoX inpainting (VOID)": {"heads": _STEERS},
    **{
        name: dict.fromkeys(NODES[:3], _UNKNOWN)
        for name in CASES
        if name.startswith(("Kandinsky", "Cosmos", "Anima", "Mochi", "SeedVR2", "Stable Video", "SV3D"))
    },
}
PICTURES = {"QwenImage", "JoyImage", "Krea2"}  # pictures in the latents of a video VAE


@pytest.mark.parametrize("name", CASES)
def test_works_or_is_refused(pack, tmp_path, monkeypatch, name):
    found, refused = walked(CASES[name], tmp_path, monkeypatch), REFUSED.get(name, {})
    assert found.keys() == set(NODES[:3] if "heads" in refused else NODES)
    for node, result in found.items():
        if node in refused:
            assert re.search(refused[node], result), f"{node}: {result}"
            assert "\n" not in result and len(result.split()) > 8, "a sentence"
        else:
            assert result == WORKS, f"{node}: {result}"


def test_no_video_class_of_comfyui_is_missing(pack):
    """Those that ComfyUI can load: with time in their latents, or attention over time in their UNet."""
    from comfy.supported_models import models

    videos = {
        model.__name__
        for model in models
        if model.latent_format.latent_dimensions == 3 or model.unet_config.get("use_temporal_attention")
    }
    assert videos - {case.config for case in CASES.values()} == PICTURES


@pytest.mark.parametrize("name", EVERY_FORM)
def test_in_bfloat16(pack, tmp_path, monkeypatch, name):
    from det_pack.nodes._comfy.loading import paths

    case = CASES[name]
    monkeypatch.setattr(paths, "state_path", lambda run: tmp_path / f"{run}.state.safetensors")
    with torch.inference_mode():
        patcher = case.model(torch.bfloat16)
        assert patcher.model.get_dtype_inference() == torch.bfloat16
        before = digest(patcher.model)
        assert applied(patcher, case) == trained(patcher, case) == WORKS
        assert digest(patcher.model) == before


@pytest.mark.parametrize(
    "name", ["LTX-Video", "LTX-2.3", "Wan 2.2 A14B I2V", "HunyuanVideo 1.5", "MiniMax H3 with sound"]
)
def test_the_stock_loader_applies_every_tensor_of_a_motion_lora(pack, name):
    import comfy.lora
    import comfy.sd
    from det_pack.det_core.lora.file import lora_from_tensors
    from det_pack.det_core.lora.lora import LoRA
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sockets.lora_model import lora_model

    case, patcher = CASES[name], CASES[name].model()
    dit, generator = patcher.model.diffusion_model, torch.Generator().manual_seed(0)
    lora = LoRA(dit, 4, generator).requires_grad_(False)
    for part in lora.parts.values():
        part.up.normal_(std=0.3, generator=generator)
    tensors = lora_model(lora, model_spec(patcher), steps=1)
    keys = comfy.lora.model_lora_keys_unet(patcher.model, {})
    assert tensors and not [key for key in tensors if key.rsplit(".lora_", 1)[0] not in keys]
    read = lora_from_tensors(tensors, model_spec(patcher))
    with torch.inference_mode():
        base, stock = sampled(patcher, case), comfy.sd.load_lora_for_models(patcher, None, tensors, 1.0, 0)[0]
        theirs = sampled(stock, case)
        for own in (lora, read):
            with own.attached_to(dit):
                ours = sampled(patcher, case)
            assert (ours - base).norm() > 1e-2 * base.norm()
            assert (ours - theirs).norm() < 1e-4 * theirs.norm()


class Recorder(torch.nn.Module):
    """In a kernel's place: keeps what it is shown and adds nothing."""

    def hidden(self, x, grid):
        self.x, self.grid = x.clone(), grid
        return torch.zeros(*x.shape[:2], 1)

    def expand_onto(self, base, hidden, grid):
        return base


@pytest.mark.parametrize("name", [name for name in CASES if "apply" not in REFUSED.get(name, {})])
def test_kernels_see_the_video_alone_in_order(pack, name):
    """One cell of the latents changed: one token changes, at its place; frames that are no time steps are not seen."""
    from det_pack.det_core.adapter.placement import Placement
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import APPLY_MODEL, AdapterWrapper, Schedule

    case = CASES[name]
    patcher, seen = case.model().clone(), Recorder()
    spec = model_spec(patcher)
    patcher.add_wrapper_with_key(APPLY_MODEL, "test", AdapterWrapper(spec, {0: seen}, Schedule(1.0), Placement()))
    front = FRONT.get(name, 0)
    frames = case.frames - front - ("guides" in name)
    time, row, column = frames - 1, 3, 2
    with torch.inference_mode():
        sampled(patcher, case, steps=1)
        before, grid = seen.x, seen.grid
        assert grid == spec.grid((frames, *case.size)), "the video's own time steps"
        sampled(patcher, case, changed=(time + front, row, column), steps=1)
    place = [size // patch for size, patch in zip((time, row, column), spec.patch, strict=True)]
    moved = (seen.x - before).abs().amax(dim=2)[0]
    assert moved.reshape(grid).nonzero().tolist() == [place]


FRONT = {"Wan Animate": 1, "Wan VACE with a reference": 1}


@pytest.mark.parametrize("name", ["LTX-Video", "LTX-2", "LTX-2.3"])
def test_frames_of_a_longer_ltx_clip_stand_where_they_stand_in_it(pack, name):
    from det_pack.det_core.models.families.positions import native_positions
    from det_pack.nodes._comfy.loading.model_spec import model_spec

    patcher = CASES[name].model()
    dit, spec, picked = patcher.model.diffusion_model, model_spec(patcher), [0, 2, 7]

    def tables(frames: int) -> torch.Tensor:
        x = torch.zeros(1, 128, frames, 4, 6)
        _, coordinates, _ = dit._process_input([x] if name != "LTX-Video" else x, None, None)
        own = coordinates[0] if isinstance(coordinates, list) else coordinates
        return own.float().unflatten(2, (frames, 24))

    whole = tables(9)
    with torch.no_grad(), native_positions(dit, spec, picked):
        assert torch.equal(tables(3), whole[:, :, picked])
    assert torch.equal(tables(3), whole[:, :, :3])
    with native_positions(dit, spec, [0.0, 1.0]), pytest.raises(ValueError, match="positions for 2 time steps"):
        tables(3)


@pytest.mark.parametrize("keyframe", [False, True])
def test_frames_of_a_longer_h3_clip_stand_where_they_stand_in_it(pack, monkeypatch, keyframe):
    """Its latent frames are 1 or 4 frames of the video apart; text, keyframe and sound stay where they are."""
    import comfy.ldm.minimax.model as minimax
    from det_pack.det_core.models.families.positions import native_positions
    from det_pack.nodes._comfy.loading.model_spec import model_spec

    patcher = CASES["MiniMax H3 with sound"].model()
    dit, spec, picked, seen = patcher.model.diffusion_model, model_spec(patcher), [0, 2, 5, 11], []
    own = minimax.rope_rotation_table
    monkeypatch.setattr(minimax, "rope_rotation_table", lambda angles, dtype: seen.append(angles) or own(angles, dtype))
    picture = randomly(1, 24, 1, 4, 6)
    payload = {"keyframes": [{"resolved_frame_index": 0, "latent": picture}], "cond_video_latents": [picture]}

    def angles(frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the other tokens, and of the video's by frame."""
        streams = [randomly(1, 24, frames, 4, 6), randomly(1, 32, 2, 3)]
        dit(streams, torch.tensor([900.0]), randomly(1, 5, 40), minimax_payload=payload if keyframe else None)
        return seen[-1][: -frames * 6], seen[-1][-frames * 6 :].unflatten(0, (frames, 6))

    with torch.no_grad():
        others, whole = angles(12)
        with native_positions(dit, spec, picked):
            placed_others, placed = angles(4)
        assert torch.equal(placed, whole[picked]) and torch.equal(placed_others, others)
        assert torch.equal(angles(4)[1], whole[:4]), "the model comes back"
        with native_positions(dit, spec, [0.5]):
            assert torch.equal(angles(1)[1][0, :, 2:6], whole[0, :, 2:6]), "rows and columns stay"
            assert (angles(1)[1][0, :, 0] - (whole[0, :, 0] + whole[1, :, 0]) / 2).abs().max() < 1e-5
        with native_positions(dit, spec, [0.0, 1.0]), pytest.raises(ValueError, match="positions for 2 time steps"):
            angles(4)


def test_sound_follows_the_motion_unless_it_is_kept_apart(pack):
    """LTX-2: with `v2a_cross_attn` off an adapter leaves the stream of sound as it is, to the bit."""
    import comfy.sample
    from comfy.nested_tensor import NestedTensor
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter

    case = CASES["LTX-2.3 with sound"]
    patcher = case.model()
    noise, text = NestedTensor([case.latents(), randomly(*case.sound)]), case.conditioning()

    def sound(model, crossing: bool) -> torch.Tensor:
        model = model.clone()
        model.model_options["transformer_options"]["v2a_cross_attn"] = crossing
        out = comfy.sample.sample(model, noise, 2, 1.0, "euler", "simple", text, text, noise * 0, disable_pbar=True)
        return out.unbind()[1]

    with torch.inference_mode():
        moved = apply_adapter(patcher, an_adapter(model_spec(patcher), 0.5), [0, 1, 2], 1.0)
        assert torch.equal(sound(moved, False), sound(patcher, False))
        assert (sound(moved, True) - sound(patcher, True)).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.given == (0,)])
def test_a_given_first_frame_is_kept(pack, name):
    """Sampling with an adapter leaves it; training has no error there."""
    import comfy.sample
    from det_pack.nodes._comfy.loading.model_spec import model_spec
    from det_pack.nodes._comfy.sampling.adapter_wrapper import apply_adapter
    from det_pack.nodes._comfy.training.trainable import trainable

    case = CASES[name]
    patcher, text, z = case.model(), case.conditioning(), case.latents()
    noise = randomly(*z.shape, seed=3)
    with torch.inference_mode():
        spec = model_spec(patcher)
        model = apply_adapter(patcher, an_adapter(spec, 0.5), [0, 1, 2], 1.0)
        out = comfy.sample.sample(
            model, noise, 2, 1.0, "euler", "simple", text, text, z, disable_pbar=True, noise_mask=case.noise_mask
        )
        assert (out[:, :, :1] - z[:, :, :1]).abs().max() < 1e-5
        assert (out[:, :, 1:] - z[:, :, 1:]).abs().max() > 0.1
        with trainable(patcher, text, z, spec, 0, mask=case.noise_mask) as (denoiser, x0), torch.no_grad():
            t = torch.tensor([500.0])
            error = denoiser.predict_x0(denoiser.add_noise(x0, noise.clone(), t), t, {}) - x0
    assert error[:, :, :1].abs().max() == 0 and error[:, :, 1:].abs().max() > 0.1


def table() -> str:
    """The table of the documentation: what works, and what the others say."""
    mark = {True: "yes", False: "no"}
    lines = ["| model, as it is used | apply | train an adapter | Follow-Your-Motion |", "|---|---|---|---|"]
    for name in CASES:
        refused = REFUSED.get(name, {})
        works = [mark[node not in refused] for node in ("apply", "train", "heads")]
        lines.append(f"| {name} | {' | '.join(works)} |")
    return "\n".join(lines)


def test_the_documentation_says_so():
    assert table() in (ROOT / "docs" / "use" / "bases.md").read_text(encoding="utf-8"), (
        f"bases.md should have:\n{table()}"
    )
