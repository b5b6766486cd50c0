"""Follow-Your-Motion through a MODEL: heads, positions and training as over diffusers; files for stock loaders."""

from __future__ import annotations

import pytest
import torch
from checkpoints import transformer
from twins import LATENTS, comfy_cond, conditioning, ddim_scheduler, diffusers_cond, load, sampled, source
from untouched import digest, overridden

FAMILIES = ["cogvideox", "hunyuan_video", "wan"]
CASES = {
    **{family: (family, {}, False) for family in FAMILIES},
    "cogvideox 2B": ("cogvideox", {"use_rotary_positional_embeddings": False}, True),
    "cogvideox 1.5": (
        "cogvideox",
        {"patch_size_t": 2, "patch_bias": False, "sample_height": 96, "sample_width": 170},
        False,
    ),
}


class Both:
    """The same weights as a diffusers model and as a MODEL."""

    def __init__(self, pack, folder, case: str):
        from det_pack.nodes._comfy.loading.model_spec import model_spec

        from det_core.models.denoiser import DiffusersDenoiser

        folder.mkdir(exist_ok=True)
        self.family, changes, as_folder = CASES[case]
        model = transformer(self.family, **changes)
        self.patcher = load(pack, folder, self.family, model, folder=as_folder)
        self.spec = model_spec(self.patcher)
        self.diffusers = DiffusersDenoiser(model, ddim_scheduler())
        self.cond = conditioning()

    @property
    def diffusers_cond(self) -> dict:
        return diffusers_cond(self.family, self.cond)

    def trainable(self, latents: torch.Tensor):
        from det_pack.nodes._comfy.training.trainable import trainable

        z = self.patcher.model.process_latent_out(latents)
        return trainable(self.patcher, comfy_cond(self.family, self.cond), z, self.spec, 0)


@pytest.fixture
def both(pack, tmp_path, request) -> Both:
    return Both(pack, tmp_path, request.param)


def heads_of(both: Both):
    """Scores read from the MODEL."""
    from det_pack.det_core.fym.classify import classify_heads
    from det_pack.nodes._comfy.training.head_reading import watched_model

    with both.trainable(source(both.family)) as (denoiser, x0):
        return classify_heads(denoiser, x0, {}, seed=3, watch=lambda scores: watched_model(denoiser, scores))


@pytest.mark.parametrize("both", FAMILIES, indirect=True)
def test_heads_are_those_that_diffusers_shows(both):
    from det_core.fym.classify import classify_heads

    before = digest(both.patcher.model)
    ours = heads_of(both)
    theirs = classify_heads(both.diffusers, source(both.family), both.diffusers_cond, seed=3)
    assert ours.spatial.shape == (4, 2) and ours.spatial.std() > 0.01
    torch.testing.assert_close(ours.spatial, theirs.spatial, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(ours.temporal, theirs.temporal, rtol=2e-3, atol=2e-3)
    assert digest(both.patcher.model) == before and overridden(both.patcher.model) == []


def test_heads_are_read_where_attention_is_replaced(pack, tmp_path):
    both = Both(pack, tmp_path, "wan")
    plain, calls = heads_of(both), []

    def replacement(attention, *args, **kwargs):
        calls.append(1)
        return attention(*args, **kwargs)

    both.patcher = both.patcher.clone()
    both.patcher.model_options["transformer_options"]["optimized_attention_override"] = replacement
    assert torch.equal(heads_of(both).spatial, plain.spatial) and calls


@pytest.mark.parametrize("both", CASES, indirect=True)
def test_positions_are_those_of_diffusers(both):
    """At any positions the MODEL predicts what the diffusers model predicts there; without them it is untouched."""
    frames, height, width = LATENTS[both.family]
    frames = 4 if both.spec.patch[0] == 2 else frames
    x0 = torch.randn(1, 16, frames, height, width, generator=torch.Generator().manual_seed(4))
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    t = torch.tensor([600])
    spread = [0.0, 1.0, 8.0, 9.0] if frames == 4 else [1.0, 4.5, 8.0]
    uneven = [0.0, 1.0, 4.0, 5.0] if frames == 4 else [0.0, 1.0, 7.0]
    rows = [2.0 * i + 0.5 for i in range(height)]

    def predicted(denoiser, cond, *positions):
        with torch.no_grad(), denoiser.at_positions(*positions):
            return denoiser.predict_x0(denoiser.add_noise(x0, noise, t), t, cond)

    with both.trainable(x0) as (denoiser, _):
        plain = predicted(denoiser, {})
        for positions in ((spread,), (uneven,), (uneven, rows), (None, rows), ([0.0, 2.0, 4.0, 6.0][:frames], rows)):
            ours, theirs = (
                predicted(d, c, *positions) for d, c in ((denoiser, {}), (both.diffusers, both.diffusers_cond))
            )
            assert (ours - theirs).abs().max() < 1e-3
            moved = (ours - plain).abs().max() > 1e-4
            assert moved or (both.family == "cogvideox" and positions[0] is None), "1.0 stretches its picture itself"
        assert torch.equal(predicted(denoiser, {}), plain)
        same = predicted(denoiser, {}, [float(i) for i in range(frames)])
        assert (
            torch.equal(same, plain) or both.spec.patch[0] == 2
        )  # version 1.5 has its table from the core, in float32
        with pytest.raises(ValueError, match="positions for .* time steps .* but the video has"):
            predicted(denoiser, {}, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert overridden(both.patcher.model) == []


def test_whole_positions_are_a_slice_of_the_whole_clips_table(pack, tmp_path):
    from det_pack.det_core.models.families.positions import native_positions

    picked = [1, 4, 7]
    both = Both(pack, tmp_path / "cogvideox", "cogvideox")
    dit = both.patcher.model.diffusion_model
    whole = [table.unflatten(0, (9, 24)) for table in dit._get_rotary_emb(4, 6, 9)]
    with native_positions(dit, both.spec, picked):
        found = [table.unflatten(0, (3, 24)) for table in dit._get_rotary_emb(4, 6, 3)]
    assert all(torch.equal(f, w[picked]) for f, w in zip(found, whole, strict=True))

    both = Both(pack, tmp_path / "hunyuan", "hunyuan_video")
    dit = both.patcher.model.diffusion_model
    video = torch.zeros(1, 16, 9, 8, 12)
    whole = dit.img_ids(video).unflatten(1, (9, 24))
    with native_positions(dit, both.spec, picked):
        assert torch.equal(dit.img_ids(video[:, :, :3]).unflatten(1, (3, 24)), whole[:, picked])

    both = Both(pack, tmp_path / "wan", "wan")
    dit = both.patcher.model.diffusion_model
    whole = dit.rope_encode(9, 8, 12).unflatten(1, (9, 24))
    with native_positions(dit, both.spec, picked) as options:
        found = dit.rope_encode(3, 8, 12, transformer_options=options)
    assert torch.equal(found.unflatten(1, (3, 24)), whole[:, picked])
    assert options, "the core's own way"
    uneven = [0, 1, 7]
    with native_positions(dit, both.spec, uneven) as options:
        found = dit.rope_encode(3, 8, 12, transformer_options=options)
    assert torch.equal(found.unflatten(1, (3, 24)), whole[:, uneven])
    assert torch.equal(dit.rope_encode(9, 8, 12).unflatten(1, (9, 24)), whole)


def head_map(package, family: str):
    """Known heads of a four-block, two-head model, as the class of det_core or of the pack's det_core."""
    temporal = torch.tensor([[4.0, 0.5], [0.2, 3.0], [2.0, 0.5], [0.5, 2.0]])
    return package.HeadMap(family, torch.ones(4, 2), temporal)


def lora_settings(config_class, spec, stage: str, **more):
    return config_class.for_stage(spec, stage, steps=3, rank=4, lr=1e-2, seed=5, motion_loss="signed", **more)


def natively_trained(both: Both, checkpointing: bool = False):
    """Both stages on the MODEL: ({stage: losses}, {stage: LoRA})."""
    from det_pack.det_core.fym import heads as package
    from det_pack.det_core.fym.sparse import Example, Examples, sparse_latents
    from det_pack.det_core.fym.train import LoRAConfig, group_lora, train_lora

    heads, dit = head_map(package, both.family), both.patcher.model.diffusion_model
    more = {"checkpoint": "full" if checkpointing else "none"}
    configs = {stage: lora_settings(LoRAConfig, both.spec, stage, **more) for stage in ("spatial", "temporal")}
    loras = {stage: group_lora(dit, heads, stage, config) for stage, config in configs.items()}
    losses = {}
    with both.trainable(source(both.family)) as (denoiser, x0):
        for stage, examples in (("spatial", Examples([Example(x0[:, :, :1])])), ("temporal", sparse_latents(x0, 2))):
            frozen = loras["spatial"] if stage == "temporal" else None
            result = train_lora(denoiser, loras[stage], examples, {}, configs[stage], frozen=frozen)
            losses[stage] = result.losses["total"]
    return losses, loras


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("both", FAMILIES, indirect=True)
def test_training_equals_training_on_diffusers(both, checkpointing):
    from det_core.fym import heads as package
    from det_core.fym.sparse import Example, Examples, sparse_latents
    from det_core.fym.train import LoRAConfig, group_lora, train_lora

    before = digest(both.patcher.model)
    losses, loras = natively_trained(both, checkpointing)
    heads, x0 = head_map(package, both.family), source(both.family)
    frozen = None
    for stage, examples in (("spatial", Examples([Example(x0[:, :, :1])])), ("temporal", sparse_latents(x0, 2))):
        config = lora_settings(LoRAConfig, both.diffusers.spec, stage)
        lora = group_lora(both.diffusers.transformer, heads, stage, config)
        expected = train_lora(both.diffusers, lora, examples, both.diffusers_cond, config, frozen=frozen)
        frozen = lora
        assert losses[stage] == pytest.approx(expected.losses["total"], rel=1e-3, abs=1e-4), stage
        theirs = dict(lora.named_parameters())
        assert max((p - theirs[name]).abs().max() for name, p in loras[stage].named_parameters()) < 5e-3
    assert digest(both.patcher.model) == before and overridden(both.patcher.model) == []


@pytest.mark.parametrize("both", FAMILIES, indirect=True)
def test_the_stock_loader_applies_what_we_apply(both):
    """Save LoRA Weights' file and Load LoRA Model: every key matched, the same picture to 1e-4."""
    import comfy.lora
    import comfy.sd
    from det_pack.nodes._comfy.sockets.lora_model import lora_model

    loras = natively_trained(both)[1]
    noise = torch.randn(1, 16, *LATENTS[both.family], generator=torch.Generator().manual_seed(3))
    base = sampled(both.patcher, both.family, both.cond, noise, 2)
    for lora in loras.values():
        for part in lora.parts.values():
            part.up.data.mul_(20)  # an effect that is seen
    for strengths in ((0.0, 1.0), (0.5, 1.0)):
        stacked = both.patcher
        for lora, strength in zip(loras.values(), strengths, strict=True):
            tensors = lora_model(lora, both.spec, steps=1)
            keys = comfy.lora.model_lora_keys_unet(both.patcher.model, {})
            assert set(comfy.lora.load_lora(tensors, keys)) and not [
                name for name in tensors if name.rsplit(".lora_", 1)[0] not in keys
            ]
            stacked = comfy.sd.load_lora_for_models(stacked, None, tensors, strength, 0)[0]
        theirs = sampled(stacked, both.family, both.cond, noise, 2)
        with loras["spatial"].attached_to(both.patcher.model.diffusion_model, strengths[0]):
            with loras["temporal"].attached_to(both.patcher.model.diffusion_model, strengths[1]):
                ours = sampled(both.patcher, both.family, both.cond, noise, 2)
        assert (ours - base).abs().max() > 1e-3
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()
        # CogVideoX starts at sigma 14142, where float32 has steps of 1e-3.
        assert (ours - theirs).abs().max() < (1e-4 if both.spec.prediction == "flow" else 2e-3)


def test_frames_and_vae_belong_together(pack):
    """In the templates they come together; where one is missing the node says that the other does nothing."""
    from det_pack.nodes.fym_train import unused_inputs
    from graphs import API, nodes, workflow

    assert unused_inputs("frames", None, None).startswith("\nframes does nothing without vae")
    assert unused_inputs(None, "vae", None).startswith("\nvae does nothing without frames or preview_prompt")
    assert not unused_inputs("frames", "vae", None) and not unused_inputs(None, "vae", "prompt")
    assert not unused_inputs(None, None, None)
    given = [train for path in API.glob("fym*.json") for train in nodes(workflow(path.stem), "FYMTrainMotionLoRA")]
    with_frames = [train["inputs"] for train in given if "frames" in train["inputs"]]
    assert with_frames and all("vae" in inputs for inputs in with_frames)
