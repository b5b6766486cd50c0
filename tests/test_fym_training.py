"""The two stages: losses by their formulas, groups that stay apart, resume, what is learned and what is left alone."""

from contextlib import nullcontext

import pytest
import torch
from tiny_dits import build, call_for

from det_core.fym.heads import HeadMap
from det_core.fym.motion_loss import MOTION_LOSSES, motion_loss
from det_core.fym.sparse import Example, Examples, sparse_latents
from det_core.fym.train import LoRAConfig, group_lora, train_lora
from det_core.lora.file import load_lora, save_lora
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler, build_transformer
from det_core.training.losses import velocities
from det_core.training.state import TrainState

BLOCKS, HEADS = 2, 2


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    transformer = build_transformer(num_layers=BLOCKS, num_heads=HEADS).eval().requires_grad_(False)
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    return DiffusersDenoiser(transformer, build_scheduler())


@pytest.fixture
def clip():
    g = torch.Generator().manual_seed(1)
    return torch.randn(1, 16, 7, 4, 4, generator=g), {"encoder_hidden_states": torch.randn(1, 8, 64, generator=g)}


HEAD_MAP = HeadMap("embedded", torch.ones(2, 2), torch.tensor([[4.0, 0.5], [3.0, 0.4]]))


def stills(latents):
    return Examples([Example(latents[:, :, i : i + 1]) for i in range(latents.shape[2])])


def config(stage="temporal", **changes):
    base = {"steps": 4, "rank": 2, "lr": 1e-2, "batch": 2}
    return LoRAConfig.for_stage(DiffusersDenoiser(build("wan")).spec, stage, **{**base, **changes})


def weights(lora):
    return [p.detach().clone() for p in lora.parameters()]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


@pytest.mark.parametrize("prediction", ["flow", "v"])
def test_velocities_are_what_the_model_predicted(prediction):
    """From the x0 prediction back to the raw velocity of a real model, and to the scheduler's target."""
    torch.manual_seed(0)
    if prediction == "flow":
        denoiser = DiffusersDenoiser(build("wan"))
        x0, cond = torch.randn(2, 4, 3, 4, 6), {"encoder_hidden_states": torch.randn(2, 5, 16)}
        t = torch.tensor([120.0, 900.0])
    else:
        denoiser = DiffusersDenoiser(build_transformer(1, 1).eval(), build_scheduler())
        x0, cond = torch.randn(2, 16, 3, 4, 4), {"encoder_hidden_states": torch.randn(2, 8, 64)}
        t = torch.tensor([40, 999])
    noise = torch.randn(x0.shape)
    with torch.no_grad():
        x_t = denoiser.add_noise(x0, noise, t)
        raw = denoiser.predict_velocity(x_t, t, cond)
        x0_pred = denoiser.predict_x0(x_t, t, cond)
    predicted, target = velocities(x0_pred, x0, noise, denoiser.loss_weight(t), prediction)
    torch.testing.assert_close(predicted, raw, rtol=1e-3, atol=2e-3)
    if prediction == "v":
        expected = build_scheduler().get_velocity(x0, noise, t)
    else:
        expected = noise - x0
    torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-4)


def test_motion_losses_are_their_formulas():
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 4, 2, 2, generator=g, dtype=torch.float64) for _ in range(2))

    def cosine(u, v):
        return (u * v).sum() / (u.norm() * v.norm())

    da, db = a[:, :, 1:] - a[:, :, :-1], b[:, :, 1:] - b[:, :, :-1]
    along_time, along_channels = [], []
    for n in range(2):
        for y in range(2):
            for x in range(2):
                for c in range(3):
                    along_time.append(cosine(da[n, c, :, y, x].abs(), db[n, c, :, y, x].abs()))
                for t in range(3):
                    along_channels.append(cosine(da[n, :, t, y, x], db[n, :, t, y, x]))
    assert motion_loss(a, b, "code").item() == pytest.approx(1 - torch.stack(along_time).mean().item(), rel=1e-5)
    assert motion_loss(a, b, "signed").item() == pytest.approx(1 - torch.stack(along_channels).mean().item(), rel=1e-5)
    for variant in MOTION_LOSSES:
        loss = motion_loss(b.bfloat16(), b.bfloat16(), variant)
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0, abs=1e-6), "no difference, no loss"
    reverse = b.flip(2)
    assert motion_loss(-b, b, "code").item() == pytest.approx(0, abs=1e-6), "absolute differences do not see a sign"
    assert motion_loss(-b, b, "signed").item() == pytest.approx(2, abs=1e-5)
    assert motion_loss(reverse, b, "signed") > 0.5
    with pytest.raises(ValueError, match="none called 'best'"):
        motion_loss(a, b, "best")


@pytest.mark.parametrize("variant", MOTION_LOSSES)
def test_a_single_frame_has_no_motion_loss_but_a_gradient(variant):
    one = torch.randn(1, 2, 1, 3, 3, requires_grad=True)
    loss = motion_loss(one, torch.randn(1, 2, 1, 3, 3), variant)
    loss.backward()
    assert loss.item() == 0 and one.grad is not None


def test_each_stage_learns_its_own_heads_and_leaves_the_model_alone(denoiser, clip):
    latents, cond = clip
    before = {k: v.clone() for k, v in denoiser.transformer.state_dict().items()}
    spatial = group_lora(denoiser.transformer, HEAD_MAP, "spatial", config("spatial"))
    first = train_lora(denoiser, spatial, stills(latents), cond, config("spatial"))
    assert set(first.losses["motion"]) == {0.0}, "single frames have no motion"
    temporal = group_lora(denoiser.transformer, HEAD_MAP, "temporal", config())
    was = weights(spatial)
    second = train_lora(denoiser, temporal, sparse_latents(latents, 3), cond, config(), frozen=spatial)
    assert all(torch.equal(a, b) for a, b in zip(was, weights(spatial), strict=True)), "the frozen stage is frozen"
    assert all(value > 0 for value in second.losses["motion"]) and len(second.losses["total"]) == 4
    for lora, name in ((spatial, "spatial"), (temporal, "temporal")):
        for (block, kind), (down, up) in lora.weights().items():
            alive = (up @ down).unflatten(1 if kind == "o" else 0, (HEADS, 64)).abs()
            alive = alive.amax((0, 2) if kind == "o" else (1, 2)) > 0
            assert alive.tolist() == [h in HEAD_MAP.group(name)[block] for h in range(HEADS)]
    after = denoiser.transformer.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert temporal.metadata["heads"] == "temporal"
    assert torch.equal(HeadMap.from_text(temporal.metadata["head_map"]).is_temporal, HEAD_MAP.is_temporal)


def test_the_loss_falls_on_both_stages(denoiser, clip):
    latents, cond = clip
    for stage, examples in (("spatial", stills(latents)), ("temporal", sparse_latents(latents, 3))):
        settings = config(stage, steps=30, rank=8, batch=4, motion_weight=0.1)
        lora = group_lora(denoiser.transformer, HEAD_MAP, stage, settings)
        total = train_lora(denoiser, lora, examples, cond, settings).losses["total"]
        assert sum(total[-10:]) < 0.95 * sum(total[:10]), stage


def test_the_frozen_stage_acts_while_the_other_learns(denoiser, clip):
    latents, cond = clip
    spatial = group_lora(denoiser.transformer, HEAD_MAP, "spatial", config("spatial"))
    for part in spatial.parts.values():
        torch.nn.init.normal_(part.up, std=0.5, generator=torch.Generator().manual_seed(0))

    def first_loss(frozen):
        lora = group_lora(denoiser.transformer, HEAD_MAP, "temporal", config(steps=1))
        result = train_lora(denoiser, lora, sparse_latents(latents, 3), cond, config(steps=1), frozen=frozen)
        return result.losses["denoising"][0]

    assert first_loss(spatial) != first_loss(None)


def test_every_example_is_seen_at_its_own_positions(denoiser, clip, monkeypatch):
    latents, cond = clip
    examples, seen = sparse_latents(latents, 3, "stride"), []

    def at_positions(positions):
        seen.append(positions)
        return nullcontext()

    monkeypatch.setattr(denoiser, "at_positions", at_positions)

    settings = config(steps=12)
    lora = group_lora(denoiser.transformer, HEAD_MAP, "temporal", settings)
    train_lora(denoiser, lora, examples, cond, settings)
    assert set(seen) == {e.positions for e in examples.all} and len(seen) == 12


@pytest.mark.parametrize("family", ["wan", "hunyuan_video", "cogvideox"])
def test_gradient_checkpointing_learns_the_same(family):
    """Blocks are run again during backward, after the positions are back to normal: they must not notice."""
    losses = []
    for checkpointing in (False, True):
        denoiser = DiffusersDenoiser(build(family), build_scheduler())
        if checkpointing:
            denoiser.transformer.enable_gradient_checkpointing()
        blocks = denoiser.spec.num_blocks
        heads = HeadMap(family, torch.ones(blocks, 2), torch.tensor([[2.0, 0.5]] * blocks))
        settings = config(steps=3, batch=1)
        call = call_for(family, denoiser.transformer, batch=1)
        names = ("encoder_hidden_states", "encoder_attention_mask", "pooled_projections")
        cond = {name: call.kwargs[name] for name in names if name in call.kwargs}
        latents = torch.randn(1, 4, 7, 4, 6, generator=torch.Generator().manual_seed(2))
        loras = [group_lora(denoiser.transformer, heads, name, settings) for name in ("spatial", "temporal")]
        for part in loras[0].parts.values():
            torch.nn.init.normal_(part.up, std=0.3, generator=torch.Generator().manual_seed(0))
        examples = sparse_latents(latents, 3)
        losses.append(train_lora(denoiser, loras[1], examples, cond, settings, frozen=loras[0]).losses["total"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][1] != losses[0][2]


@pytest.mark.parametrize("stop_at", [1, 3])
def test_resuming_is_bit_exact_and_only_with_the_same_frozen_stage(denoiser, clip, stop_at, tmp_path):
    latents, cond = clip
    examples = sparse_latents(latents, 3)
    spatial = group_lora(denoiser.transformer, HEAD_MAP, "spatial", config("spatial"))

    class Stop(Exception):
        pass

    def stop(run, _losses):
        if run.step == stop_at:
            run.state().save(tmp_path / "state.safetensors")
            raise Stop

    def train(frozen=spatial, **options):
        lora = group_lora(denoiser.transformer, HEAD_MAP, "temporal", config())
        return train_lora(denoiser, lora, examples, cond, config(), frozen=frozen, **options)

    whole = train()
    with pytest.raises(Stop):
        train(on_step=stop)
    state = TrainState.load(tmp_path / "state.safetensors")
    resumed = train(resume=state)
    assert equal(whole.adapter, resumed.adapter)
    assert resumed.losses == whole.losses
    with pytest.raises(ValueError, match="cannot resume"):
        train(frozen=None, resume=state)


def test_the_files_of_both_stages_act_as_what_was_trained(denoiser, clip, tmp_path):
    latents, cond = clip
    loras = {}
    for stage, examples in (("spatial", stills(latents)), ("temporal", sparse_latents(latents, 3))):
        lora = group_lora(denoiser.transformer, HEAD_MAP, stage, config(stage))
        train_lora(denoiser, lora, examples, cond, config(stage))
        save_lora(tmp_path / f"{stage}.safetensors", lora, denoiser.spec)
        loras[stage] = (lora, load_lora(tmp_path / f"{stage}.safetensors", denoiser.spec))

    def predict(index, spatial, temporal):
        with loras["spatial"][index].attached_to(denoiser.transformer, spatial), torch.no_grad():
            with loras["temporal"][index].attached_to(denoiser.transformer, temporal):
                return denoiser.predict_velocity(latents, torch.tensor([500]), cond)

    for strengths in ((1, 1), (0, 1), (0.5, 1.5)):
        torch.testing.assert_close(predict(0, *strengths), predict(1, *strengths), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(predict(0, 0, 1), predict(0, 1, 0))


def test_bad_examples_and_stages_are_refused(denoiser, clip):
    latents, _ = clip
    for examples in ([], [Example(latents), Example(latents[:, :, :3])]):
        with pytest.raises(ValueError, match="at least one example, all of one size"):
            Examples(examples)
    with pytest.raises(ValueError, match='"spatial" and "temporal"'):
        LoRAConfig.for_stage(denoiser.spec, "third")
    with pytest.raises(ValueError, match="classify its heads anew"):
        group_lora(build("wan"), HEAD_MAP, "temporal", config())
    all_temporal = HeadMap("embedded", torch.ones(2, 2), torch.full((2, 2), 9.0), "code")
    with pytest.raises(ValueError, match="would be empty"):
        group_lora(denoiser.transformer, all_temporal, "spatial", config())
