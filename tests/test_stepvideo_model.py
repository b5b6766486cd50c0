"""Step-Video-T2V as a base model: its spec, adapters, LoRAs of heads, positions, sampling, memory, its folder."""

from __future__ import annotations

import copy
import math

import pytest
import stepvideo_golden as small
import torch
from memory_meter import MemoryMeter
from tiny_dits import conv_reference, filled_adapter

from det_core.adapter.attach import attach
from det_core.adapter.motion_adapter import MotionAdapter
from det_core.fym.classify import classify_heads
from det_core.lora.file import lora_from_tensors, lora_tensors
from det_core.lora.lora import LoRA
from det_core.models.compute.checkpointing import POLICIES, checkpointed
from det_core.models.compute.memory import mlp_ratio_of, training_memory
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.families import kept_blocks, native_weights, spec_for
from det_core.models.families.positions import token_positions
from det_core.models.families.projections import projections
from det_core.models.sample import sample
from det_core.models.stepvideo.rotary import rotary_table
from det_core.models.stepvideo.transformer import StepVideoTransformer, published_sizes
from det_core.tracking.tracks import Tracks
from det_core.training.loop import TrainConfig, train_motion_adapter
from det_core.training.views import training_views

LATENTS, TIME, LLM, CLIP, MASK = small.transformer_inputs()
COND = {"llm_states": LLM, "clip_states": CLIP, "text_mask": MASK}
GRID = (3, 2, 4)


@pytest.fixture
def model():
    return small.transformer()


@pytest.fixture
def denoiser(model):
    return DiffusersDenoiser(model)


def run(model, **inputs):
    return model(LATENTS, TIME, LLM, CLIP, MASK, **inputs)


class TestSpec:
    def test_the_paper_settings(self):
        spec = spec_for(StepVideoTransformer(device="meta"))
        assert (spec.name, spec.layout, spec.dim, spec.num_blocks) == ("stepvideo", "diffusers", 6144, 48)
        assert (spec.patch, spec.spatial_compression, spec.prediction) == ((1, 1, 1), 16, "flow")
        assert spec.taps[47].input == spec.taps[47].output == "transformer_blocks.47.attn1"
        d = spec.defaults
        assert (d.mid_dim, d.kernel_size, d.lr, d.warmup, d.steps) == (256, 5, 2e-5, 100, 500)
        assert (d.sample_steps, d.cfg, d.shift, d.frames, d.height, d.width) == (50, 9.0, 13.0, 51, 512, 768)
        assert kept_blocks(spec.num_blocks, d.drop_fraction) == list(range(16)), "the last 32 of 48 are dropped"
        assert (spec.frames.latent_frames(51), d.height // 16, d.width // 16) == (9, 32, 48)

    def test_time_is_uneven(self, model):
        frames = spec_for(model).frames
        assert frames.read_at(9) == [0, 8, 16, 17, 25, 33, 34, 42, 50]
        with pytest.raises(ValueError, match="17k frames, not 49: ask for 34 or 51 frames"):
            frames.check(49)

    def test_tracks_are_read_at_the_frames_that_latents_stand_for(self, model):
        points = torch.arange(51.0)[None, :, None].expand(1, 51, 2) / 51
        view = training_views(spec_for(model), torch.zeros(1, 4, 9, 2, 2), Tracks(points, torch.ones(1, 51).bool()))[0]
        assert (view.tracks.points[0, :, 0] * 51).round().tolist() == [0, 8, 16, 17, 25, 33, 34, 42, 50]

    def test_weights_are_recognised_and_measured(self, model):
        family, weights = native_weights(model.state_dict())
        assert family.name == "stepvideo" and weights.keys() == model.state_dict().keys()
        assert published_sizes(weights) == {**small.TRANSFORMER, "mlp_width": 192}

    def test_an_image_to_video_model_and_a_missing_block_are_refused(self, model):
        state = model.state_dict()
        image = {**state, "pos_embed.proj.weight": torch.zeros(48, 8, 1, 1)}
        with pytest.raises(ValueError, match="Step-Video-TI2V"):
            published_sizes(image)
        with pytest.raises(ValueError, match="block 1 is missing"):
            published_sizes({k: v for k, v in state.items() if "blocks.1." not in k})


class TestAdapter:
    @torch.no_grad()
    def test_a_new_adapter_is_bit_identical_to_none_and_the_base_stays(self, model):
        base, weights = run(model), copy.deepcopy(model.state_dict())
        with attach(model, MotionAdapter.create(spec_for(model))):
            assert torch.equal(run(model), base)
        with attach(model, filled_adapter(model)):
            assert (run(model) - base).abs().max() > 1e-2
        assert torch.equal(run(model), base)
        assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())

    @torch.no_grad()
    def test_adds_the_defined_residual_before_the_gate(self, model):
        adapter = filled_adapter(model, kernel_size=5)
        with attach(model, adapter, keep=[0, 2], strength=0.7):
            out = run(model)
        for index in (0, 2):

            def add(_module, args, result, kernel=adapter.kernels[index]):
                return result + 0.7 * conv_reference(kernel, args[0], GRID)

            model.transformer_blocks[index].attn1.register_forward_hook(add)
        assert (out - run(model)).abs().max() < 2e-5

    @pytest.mark.parametrize("policy", POLICIES)
    def test_gradients_reach_every_block(self, model, policy):
        adapter, gradients = filled_adapter(model), []
        for chosen in ("none", policy):
            with attach(model, adapter), checkpointed(model, spec_for(model), chosen):
                loss = run(model).square().mean()
                gradients.append(torch.autograd.grad(loss, list(adapter.parameters())))
        for plain, recomputed in zip(*gradients, strict=True):
            assert plain.abs().max() > 0
            assert torch.allclose(plain, recomputed, rtol=1e-4, atol=1e-7)

    def test_training_lowers_the_loss(self, denoiser):
        latents, cond = LATENTS[:1].transpose(1, 2), {key: value[:1] for key, value in COND.items()}
        points = torch.rand(6, 17, 2, generator=torch.Generator().manual_seed(0))
        tracks = Tracks(points, torch.ones(6, 17, dtype=torch.bool))
        config = TrainConfig(steps=40, lr=1e-2, mid_dim=8, kernel_size=5, tracking_weight=0.1)
        losses = train_motion_adapter(denoiser, latents, cond, tracks, config).losses["total"]
        assert sum(losses[-10:]) < sum(losses[:10])

    @pytest.mark.parametrize("policy", POLICIES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_the_memory_estimate_is_within_15_percent_of_a_step(self, dtype, policy):
        sizes = {**small.TRANSFORMER, "head_width": 64, "num_heads": 3}
        model = small.with_weights(StepVideoTransformer(**sizes), 1).to(dtype)
        adapter, latents = filled_adapter(model, mid_dim=24, kernel_size=5), small.noise(1, 2, 4, 4, 8, 8)
        inputs = (latents.to(dtype), TIME, LLM.to(dtype), CLIP.to(dtype))
        with attach(model, adapter), checkpointed(model, spec_for(model), policy), MemoryMeter() as meter:
            model(*inputs).float().square().mean().backward()
        estimate = training_memory(
            spec_for(model),
            (4, 8, 8),
            policy=policy,
            dtype=dtype,
            mid_dim=24,
            kernel_size=5,
            batch=2,
            mlp_ratio=mlp_ratio_of(model, spec_for(model)),
        )
        assert estimate.activations == pytest.approx(meter.peak, rel=0.15)


class TestHeads:
    """Fused projections go head by head: a LoRA of some heads must move these, in the model and in its file."""

    CHOSEN = [[0, 2], [1], [2]]

    def filled(self, model, **options) -> LoRA:
        lora = LoRA(model, 2, torch.Generator().manual_seed(3), **options)
        for parameter in lora.parameters():
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
        return lora

    @torch.no_grad()
    def test_an_update_of_one_head_changes_its_own_attention_alone(self, model):
        lora, seen = self.filled(model, heads=[[1], [], []], kinds="qk"), []
        block = model.transformer_blocks[0].attn1
        attend = block.attend

        def watch(*qkv, **options):
            seen.append(torch.stack([part.unflatten(-1, (3, 16)) for part in qkv]))
            return attend(*qkv, **options)

        block.attend = watch
        run(model)
        with lora.attached_to(model):
            run(model)
        changed = (seen[0] != seen[1]).any(dim=-1).any(dim=1).any(dim=1)  # (q k v, heads)
        assert changed.tolist() == [[False, True, False], [False, True, False], [False, False, False]]

    @torch.no_grad()
    def test_a_file_of_heads_is_a_change_of_weights(self, model):
        lora, plain = self.filled(model, heads=self.CHOSEN), run(model)
        with lora.attached_to(model, 0.7):
            found = run(model)
        assert (found - plain).abs().max() > 1e-2
        tensors = lora_tensors(lora, spec_for(model))
        assert "diffusion_model.transformer_blocks.0.attn1.wqkv.lora_down.weight" in tensors
        again = lora_from_tensors(tensors, spec_for(model))
        with again.attached_to(model, 0.7):
            assert (run(model) - found).abs().max() < 1e-5
        for key in [key for key in tensors if key.endswith("lora_down.weight")]:
            path = key.removeprefix("diffusion_model.").removesuffix(".lora_down.weight")
            up, down = tensors[key.replace("lora_down", "lora_up")], tensors[key]
            model.get_submodule(path).weight.data += 0.7 * up @ down
        assert (run(model) - found).abs().max() < 1e-5

    def test_taken_undoes_placed(self, model):
        share = torch.randn(2, 48)
        for kind in "qkv":
            place = projections(spec_for(model))[0, kind]
            assert torch.equal(place.taken(place.placed(share)), share)
        assert place.placed(share)[0, 2 * 16 : 3 * 16].equal(share[0, :16]), "v of head 0 stands behind its q and k"

    def test_heads_are_read(self, denoiser):
        cond = {key: value[:1] for key, value in COND.items()}
        found = classify_heads(denoiser, LATENTS[:1].transpose(1, 2), cond, draws=1)
        assert found.spatial.shape == (3, 3) and torch.isfinite(found.spatial).all()


class TestPositions:
    @torch.no_grad()
    def test_chosen_frames_stand_where_they_do_in_the_whole(self, model):
        tables = []
        forward = model.transformer_blocks[0].forward
        model.transformer_blocks[0].forward = lambda *args: tables.append(args[4]) or forward(*args)
        run(model)
        with token_positions(model, [0.0, 2.0, 5.0]):
            run(model)
        whole = rotary_table((range(6), range(2), range(4)), 16).unflatten(1, (6, 8))
        assert torch.equal(tables[0].unflatten(1, (3, 8)), whole[:, :3])
        assert torch.equal(tables[1].unflatten(1, (3, 8)), whole[:, [0, 2, 5]])

    @torch.no_grad()
    def test_another_size_is_refused(self, model):
        with pytest.raises(ValueError, match="positions for 2 time steps of tokens, but the video has 3"):
            with token_positions(model, [0.0, 1.0]):
                run(model)


class TestSampling:
    @pytest.mark.parametrize("steps", [10, 30])
    def test_equals_the_models_own_loop(self, model, denoiser, steps):
        """Time from 0 to 1 in the shifted schedule, Euler in float32, guidance, all written out."""
        noise = small.noise(41, 1, 4, *GRID)
        cond, uncond = ({key: value[i : i + 1] for key, value in COND.items()} for i in (1, 0))
        found = sample(denoiser, cond, uncond, noise, steps=steps)
        u = torch.linspace(1, 0, steps + 1)  # float32 as the reference has it: a thousand times the time turns sines
        times = 1 - 13 * u / (1 + 12 * u)
        x = noise.transpose(1, 2)
        with torch.no_grad():
            for now, then in zip(times, times[1:], strict=False):
                with_prompt, without = (
                    model(x, now[None], c["llm_states"], c["clip_states"], c["text_mask"]) for c in (cond, uncond)
                )
                x = x + (without + 9 * (with_prompt - without)) * (then - now)
        # Guidance 9 multiplies the rounding of 60 evaluations, which the number of threads changes: 1.1e-5 was seen.
        # A time that is wrong by 1e-5 shows as 3e-3.
        assert (found - x.transpose(1, 2)).abs().max() < 1e-4

    def test_the_prediction_of_clean_latents(self, model, denoiser):
        x, cond = LATENTS.transpose(1, 2), COND
        t = torch.tensor([750.0, 100.0])
        with torch.no_grad():
            velocity = model(LATENTS, 1 - t / 1000, LLM, CLIP, MASK).transpose(1, 2)
            expected = x + (t / 1000)[:, None, None, None, None] * velocity
            assert (denoiser.predict_x0(x, t, cond) - expected).abs().max() < 1e-5


def test_the_paper_settings_fit_what_the_page_says():
    """51 frames of 512x768 with every block checkpointed, in bfloat16."""
    spec = spec_for(StepVideoTransformer(device="meta"))
    needed = training_memory(spec, (9, 32, 48), policy="full", dtype=torch.bfloat16)
    parameters = 48 * 2 * 6144 * 256 * 5
    assert needed.adapter == 16 * parameters
    assert math.isclose(needed.activations / 1e9, 13.1, rel_tol=0.05)
