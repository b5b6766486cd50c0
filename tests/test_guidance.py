"""Guidance in a sampling: what it reads, what it moves, and what it leaves as it was."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from tiny_dits import FAMILIES, call_for, filled_adapter, four_blocks

from det_core.adapter.attach import attach
from det_core.guidance.guide import Guide, Plan
from det_core.guidance.losses import FEATURES, LOSSES, flow_loss, flow_target
from det_core.guidance.reading import read_attention, read_tokens
from det_core.guidance.reference import MotionReference, describe_source, subject_cells
from det_core.guidance.sampling import DiffusersPass, MotionGuidance
from det_core.models.compute.checkpointing import block_paths, checkpointed
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.base_model import EmbeddedModel
from det_core.models.families import spec_for
from det_core.models.sample import ModelAt, sample
from det_core.tracking.tracks import Tracks

PROMPT = "a green star on a teal striped background"


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@torch.no_grad()
def test_a_block_read_early_gives_what_it_gives_in_a_full_run_and_no_later_block_runs(family):
    model = four_blocks(family)
    spec, call = spec_for(model), call_for(family, model)
    seen: dict[int, torch.Tensor] = {}

    def remember(module, args, result, block: int) -> None:
        seen[block] = result[0] if isinstance(result, tuple) else result

    for block, path in enumerate(block_paths(spec)):
        model.get_submodule(path).register_forward_hook(partial(remember, block=block))
    call(model)
    full = dict(seen)
    for block in range(spec.num_blocks):
        seen.clear()
        video = full[block][:, -math.prod(call.grid) :]  # after the text, where it passes, too
        assert torch.equal(read_tokens(model, spec, block, call.grid, lambda: call(model), torch.clone), video)
        assert max(seen, default=0) <= block


@torch.no_grad()
def test_q_and_k_are_read_of_the_video_alone(family):
    model = four_blocks(family)
    spec, call = spec_for(model), call_for(family, model)
    q, k = read_attention(model, spec, 1, call.grid, lambda: call(model), lambda *both: both)
    assert q.shape == k.shape == (2, 3, math.prod(call.grid), spec.attention_dim // 3)
    assert not torch.equal(q, k)


@pytest.mark.parametrize("policy", ["full", "attention"])
@pytest.mark.parametrize("what", ["tokens", "attention"])
def test_the_gradient_is_the_same_with_blocks_computed_again_and_with_an_adapter(family, policy, what):
    model = four_blocks(family)
    spec, call = spec_for(model), call_for(family, model)
    x = call.kwargs["hidden_states"].clone().requires_grad_()
    call.kwargs["hidden_states"] = x
    read = {"tokens": read_tokens, "attention": read_attention}[what]

    def gradient(*tensors: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(sum(t.square().sum() for t in tensors), x)[0]

    with attach(model, filled_adapter(model).requires_grad_(False)):
        plain = read(model, spec, 2, call.grid, lambda: call(model), gradient)
        with checkpointed(model, spec, policy, 2):
            again = read(model, spec, 2, call.grid, lambda: call(model), gradient)
    bare = read(model, spec, 2, call.grid, lambda: call(model), gradient)
    assert torch.allclose(plain, again, rtol=1e-4, atol=1e-5 * plain.abs().max().item())
    assert not torch.allclose(plain, bare, rtol=1e-2)
    assert [name for name, part in model.named_modules() if "forward" in part.__dict__] == []


def test_updates_are_spread_and_their_number_does_not_depend_on_the_steps():
    plan = Plan(FEATURES, 3, 4, 29.0)
    for steps in (1, 4, 8, 20, 50, 999):
        guided = plan.guided_steps(steps)
        ends = [plan.updates_before(i, guided) for i in range(guided + 1)]
        assert ends[0] == 0 and ends[-1] == 4 and ends[1] >= 1 and ends == sorted(ends)
    assert plan.guided_steps(50) == 10 and plan.guided_steps(20) == 4 and plan.guided_steps(3) == 1


def test_the_size_of_a_step_keeps_its_ratio_to_noise_over_sizes():
    plan = Plan(FEATURES, 3, 4, 29.0)
    assert plan.step_size(0, 9216) == pytest.approx(0.302, abs=1e-3)
    assert plan.step_size(3, 9216) == pytest.approx(0.151, abs=1e-3)
    assert plan.step_size(0, 9216) * 9216**0.5 == pytest.approx(plan.step_size(0, 10**6) * 1e3)


@pytest.mark.parametrize(
    "changes, says",
    [({"loss": "attention"}, "features, flow, latents"), ({"block": 9}, "0 to"), ({"updates": 0}, "update")],
)
def test_a_plan_that_cannot_be_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        Plan.for_spec(spec_for(four_blocks("wan")), **changes)


class Quadratic:
    """A model whose tokens are the latents themselves and whose clean latents are half of them."""

    signal, noise = 0.6, 0.8

    def tokens(self, x, block, reader):
        return reader(x.flatten(2).transpose(1, 2))

    def clean(self, x):
        return x / 2


def guide_on_latents(loss: str, source: torch.Tensor, **changes) -> Guide:
    spec = SimpleNamespace(patch=(1, 1, 1), grid=lambda shape: tuple(shape[-3:]))
    guide = Guide(Plan(LOSSES[loss], 0, 4, 3.0, **changes), spec, source)
    guide.look(Quadratic())
    return guide


@pytest.mark.parametrize("loss", ["features", "latents"])
def test_latents_move_towards_the_source_and_each_video_as_if_alone(loss):
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(1, 4, 3, 2, 2, generator=generator)
    x = torch.randn(2, 4, 3, 2, 2, generator=generator)
    moved, x0 = guide_on_latents(loss, source).step(x, 0, 1, Quadratic())
    alone, _ = guide_on_latents(loss, source).step(x[1:], 0, 1, Quadratic())
    assert torch.allclose(moved[1:], alone, atol=1e-5)
    assert torch.equal(x0, moved / 2)
    centred = [v - v.mean(2, keepdim=True) for v in (x, moved, source.expand_as(x))]
    before, after = (torch.cosine_similarity(v.flatten(1), centred[2].flatten(1)) for v in centred[:2])
    assert (after > before + 0.02).all()
    assert (moved - x).abs().max() <= 4 * 3.0 / 48**0.5 + 1e-5


def test_a_source_of_another_size_is_refused():
    source = torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="encode the source at the size"):
        guide_on_latents("features", source).step(torch.zeros(1, 4, 3, 2, 3), 0, 1, Quadratic())


@pytest.fixture(scope="module")
def embedded() -> EmbeddedModel:
    return EmbeddedModel()


@pytest.fixture(scope="module")
def source(embedded) -> torch.Tensor:
    from det_core.models.embedded.corpus import Scene, make_clip

    clip = make_clip(Scene.held_out()[0], "figure_eight", torch.Generator().manual_seed(3))
    return embedded.encode_video(clip.frames)


def sampled(embedded, source, plan: Plan | None, steps: int = 2, adapter=None) -> torch.Tensor:
    noise = torch.randn((1, *source.shape[1:]), generator=torch.Generator().manual_seed(0))
    cond, empty = (embedded.encode_prompts([prompt]) for prompt in (PROMPT, ""))
    guidance = None if plan is None else MotionGuidance(MotionReference(source, "embedded"), empty, plan)
    return sample(embedded.denoiser, cond, empty, noise, steps=steps, cfg=3.0, adapter=adapter, guidance=guidance)


@pytest.fixture(scope="module")
def plain(embedded, source) -> torch.Tensor:
    return sampled(embedded, source, None)


def likeness(x: torch.Tensor, source: torch.Tensor) -> float:
    """Cosine of what moves in two clips."""
    moving = [(v - v.mean(2, keepdim=True)).flatten() for v in (x, source)]
    return torch.cosine_similarity(*moving, dim=0).item()


def test_strength_zero_is_bit_identical(embedded, source, plain):
    assert torch.equal(sampled(embedded, source, Plan.for_spec(embedded.denoiser.spec, strength=0.0)), plain)


@pytest.mark.parametrize("loss", ["features", "latents"])
def test_what_is_made_moves_more_as_the_source_and_the_model_stays_as_it_was(embedded, source, plain, loss):
    transformer = embedded.denoiser.transformer
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    guided = sampled(embedded, source, Plan.for_spec(embedded.denoiser.spec, loss))
    assert likeness(guided, source) > likeness(plain, source) + 0.05
    assert all(torch.equal(value, before[name]) for name, value in transformer.state_dict().items())
    assert not any("forward" in part.__dict__ for part in transformer.modules())


def test_updates_by_flow_lower_the_flow_loss(embedded, source):
    spec, noise = embedded.denoiser.spec, torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
    plan = Plan.for_spec(spec, "flow", updates=3)
    prompt, empty = (
        DiffusersPass(ModelAt(embedded.denoiser, torch.tensor(t), embedded.encode_prompts([text])), plan)
        for t, text in ((850, PROMPT), (0, ""))
    )
    target = empty.attention(source, plan.block, partial(flow_target, grid=spec.grid(source.shape)))
    guide = Guide(plan, spec, source)
    guide.look(empty)
    with torch.no_grad():
        moved, _ = guide.step(noise, 0, 1, prompt)
        before, after = (
            prompt.attention(x, plan.block, partial(flow_loss, target=target, grid=guide.grid)).item()
            for x in (noise, moved)
        )
    assert after < 0.9 * before


def test_it_stacks_with_an_adapter(embedded, source, plain):
    plan = Plan.for_spec(embedded.denoiser.spec)
    adapter = filled_adapter(embedded.denoiser.transformer).requires_grad_(False)
    both = sampled(embedded, source, plan, adapter=adapter)
    alone = sampled(embedded, source, None, adapter=adapter)
    assert likeness(both, source) > likeness(alone, source) + 0.05
    assert not torch.allclose(alone, plain, atol=0.05)


class Shifted:
    """Moves the latents once, by a number; nothing else does."""

    def __init__(self, when: int, by: float):
        self.when, self.by = when, by

    def step(self, x, index, steps, at):
        return (x + self.by if index == self.when else x), torch.zeros_like(x)


@pytest.mark.parametrize("when", [0, 1, 3])
def test_what_is_moved_stays_moved_with_every_scheduler(when):
    """UniPC, of Wan's folders, has a corrector, which would compute the latents anew from those of the step before."""
    unipc = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    noise = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    for scheduler in (None, unipc):
        denoiser = DiffusersDenoiser(four_blocks("wan"), scheduler)
        shifted, plain = (sample(denoiser, {}, None, noise, steps=8, guidance=Shifted(when, by)) for by in (1.0, 0.0))
        torch.testing.assert_close(shifted - plain, torch.ones_like(plain), rtol=0, atol=0.02)
    assert unipc.disable_corrector == [], "the folder's own stays as it was"


def test_a_reference_is_a_file_that_comes_back(tmp_path, source):
    frames = torch.rand(9, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    subject = torch.zeros(9, 8, 8, dtype=torch.bool)
    subject[:, 2:4] = True
    made = MotionReference(source, "embedded", subject, describe_source("clip.mp4", 8.0, frames))
    made.save(tmp_path / "motion.safetensors")
    back = MotionReference.load(tmp_path / "motion.safetensors")
    assert torch.equal(back.latents, made.latents) and torch.equal(back.subject, subject)
    assert back.metadata.items() >= made.metadata.items() and '"fps": 8.0' in back.metadata["source"]
    assert back.metadata["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    assert (tmp_path / "motion.safetensors").stat().st_size < 100_000


def test_what_is_no_reference_of_this_model_is_refused(tmp_path, source):
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match="no such file"):
        MotionReference.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a file")
    with pytest.raises(ValueError, match="damaged"):
        MotionReference.load(tmp_path / "bad.safetensors")
    save_file({"latents": source.contiguous()}, tmp_path / "other.safetensors", metadata={"method": "det"})
    with pytest.raises(ValueError, match="not a motion reference"):
        MotionReference.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="made for embedded, but the model is wan"):
        MotionReference(source, "embedded").check(spec_for(four_blocks("wan")))


def test_the_subjects_cells_are_where_its_tracks_pass():
    points = torch.tensor([[[0.55, 0.3], [0.8, 0.3]]])  # one point, two frames
    cells = subject_cells(Tracks(points, torch.ones(1, 2, dtype=torch.bool)), (1, 4, 2, 10, 10), margin=0)
    assert torch.equal(cells[0], cells[1]) and cells[0].nonzero().tolist() == [[3, 5], [3, 8]]
    grown = subject_cells(Tracks(points, torch.ones(1, 2, dtype=torch.bool)), (1, 4, 2, 10, 10), margin=1)
    assert grown[0].sum() == 18
