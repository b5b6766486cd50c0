"""Heads are told apart: known attention, real models of every family, few rows against the whole map."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_dits import build, call_for

from det_core.fym.classify import classify_heads, watched_attention
from det_core.fym.head_picture import draw_heads
from det_core.fym.head_scores import HeadScores
from det_core.fym.heads import HeadMap
from det_core.models.denoiser import DiffusersDenoiser
from det_core.models.embedded.model import build_scheduler, build_transformer
from det_core.models.families import spec_for


def known_head(grid, frame: float, place: float):
    """q, k (tokens, width) whose attention logits are exactly `frame` for keys of the same frame plus `place` for keys
    of the same place."""
    time, places = grid[0], grid[1] * grid[2]
    tokens = time * places
    frames = F.one_hot(torch.arange(tokens) // places, time).double()
    spots = F.one_hot(torch.arange(tokens) % places, places).double()
    width = time + places
    k = torch.cat([frames, spots], 1)
    q = torch.cat([frame * frames, place * spots], 1) * width**0.5
    return q.float(), k.float()


def scored(grid, heads, rows=10**9, rule="paper", seed=0) -> HeadMap:
    q, k = (torch.stack(side) for side in zip(*heads, strict=True))
    scores = HeadScores(1, len(heads), grid, rows, torch.Generator().manual_seed(seed))
    scores.observe(0, q, k)
    return scores.map("wan", rule)


GRIDS = [(2, 1, 2), (3, 4, 5), (5, 3, 7), (4, 6, 6), (7, 2, 3)]


@pytest.mark.parametrize("grid", GRIDS)
def test_uniform_attention_scores_one_on_both_sides(grid):
    heads = scored(grid, [known_head(grid, 0.0, 0.0)])
    torch.testing.assert_close(torch.stack([heads.spatial, heads.temporal]), torch.ones(2, 1, 1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("grid", GRIDS)
def test_same_frame_and_same_place_heads_have_their_analytic_scores(grid):
    """With logit s on the own frame (or place), the mass there is known in closed form."""
    time, places = grid[0], grid[1] * grid[2]
    tokens, boost = time * places, math.exp(2.0)
    heads = scored(grid, [known_head(grid, 2.0, 0.0), known_head(grid, 0.0, 2.0)])
    total_frame = places * boost + tokens - places
    assert heads.spatial[0, 0].item() == pytest.approx(boost * tokens / total_frame, rel=1e-4)
    assert heads.temporal[0, 0].item() == pytest.approx(tokens / total_frame, rel=1e-4)
    total_place = time * boost + tokens - time
    assert heads.spatial[0, 1].item() == pytest.approx(tokens / total_place, rel=1e-4)
    assert heads.temporal[0, 1].item() > heads.spatial[0, 1].item()


def reference_scores(q, k, scores: HeadScores):
    """The two scores from the whole map, by loops over tokens: an independent reading of the definition."""
    time, height, width = scores.grid
    attention = (q.double() @ k.double().transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1)
    tokens = [(t, y, x) for t in range(time) for y in range(height) for x in range(width)]
    masses, areas = torch.zeros(2, len(q), dtype=torch.float64), [0, 0]
    for row in scores.rows.tolist():
        t, y, x = tokens[row]
        for column, (kt, ky, kx) in enumerate(tokens):
            if kt == t and column != row:
                which = 0
            elif kt != t and max(abs(ky - y), abs(kx - x)) <= scores.reach:
                which = 1
            else:
                continue
            masses[which] += attention[:, row, column]
            areas[which] += 1
    return masses / (torch.tensor(areas)[:, None] / len(tokens))


@pytest.mark.parametrize("grid", [(3, 2, 5), (2, 6, 5), (4, 3, 3)])
@pytest.mark.parametrize("rows", [7, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_those_of_the_definition(grid, rows, dtype, monkeypatch):
    monkeypatch.setattr("det_core.fym.head_scores.CHUNK_BYTES", 500)  # one head at a time
    g = torch.Generator().manual_seed(3)
    q, k = (torch.randn(3, math.prod(grid), 8, generator=g).to(dtype) for _ in range(2))
    scores = HeadScores(1, 3, grid, rows, g)
    scores.observe(0, q, k)
    expected = reference_scores(q, k, scores)
    found = scores.map("wan")
    torch.testing.assert_close(torch.cat([found.spatial, found.temporal]).double(), expected, rtol=1e-4, atol=1e-5)


def test_rows_are_spread_over_the_video_and_change_from_draw_to_draw():
    scores = HeadScores(1, 1, (5, 4, 6), 24, torch.Generator().manual_seed(0))
    seen = set()
    for _ in range(12):
        rows = scores.rows
        assert (rows // 5).tolist() == list(range(24)), "one from each of 24 equal stretches"
        seen |= set(rows.tolist())
        scores.draw_rows()
    assert seen == set(range(120)), "over a dozen draws every row was read"


@pytest.mark.parametrize("grid", [(5, 6, 8), (9, 8, 8), (13, 5, 6)])
@pytest.mark.parametrize("rule", ["balanced", "paper", "code"])
def test_heads_that_are_one_sided_are_classified_right(grid, rule):
    """Heads from 1.5x to 30x one-sided, as many of each kind, some blurred: all right under every rule."""
    heads, expected = [], []
    for strength in (0.6, 1.0, 2.0, 4.0):
        for blur in (0.0, 0.3):
            heads += [known_head(grid, strength + blur, blur), known_head(grid, blur, 2 * strength + 1.5)]
            expected += [False, True]
    heads_map = scored(grid, heads, rows=256, rule=rule)
    sided = heads_map.lean.abs() >= math.log2(1.5)
    assert sided.all(), heads_map.lean
    assert heads_map.is_temporal.flatten().tolist() == expected


def test_rules_disagree_exactly_where_paper_and_code_do():
    spatial, temporal = torch.ones(1, 5), torch.tensor([[0.7, 0.81, 1.0, 1.29, 1.31]])
    decided = {rule: HeadMap("wan", spatial, temporal, rule).is_temporal[0].tolist() for rule in ("paper", "code")}
    assert decided["paper"] == [False, True, True, True, True]
    assert decided["code"] == [False, False, False, False, True]
    assert HeadMap("wan", spatial, temporal).is_temporal[0].tolist() == [False, False, False, True, True]


def test_balanced_halves_the_model_not_each_block_and_groups_are_complete():
    temporal = torch.tensor([[4.0, 3.0, 2.5], [0.1, 0.2, 0.3]])
    heads = HeadMap("wan", torch.ones(2, 3), temporal)
    assert heads.group("temporal") == [[0, 1, 2], []]
    assert heads.group("spatial") == [[], [0, 1, 2]]
    with pytest.raises(ValueError, match="spatial or temporal"):
        heads.group("both")


def test_a_map_survives_its_text_and_other_texts_are_refused():
    g = torch.Generator().manual_seed(0)
    heads = HeadMap("wan", torch.rand(3, 4, generator=g), torch.rand(3, 4, generator=g), "code")
    again = HeadMap.from_text(heads.to_text())
    torch.testing.assert_close(again.spatial, heads.spatial, rtol=1e-4, atol=0)
    torch.testing.assert_close(again.temporal, heads.temporal, rtol=1e-4, atol=0)
    assert again.rule == "code" and again.base_model == "wan"
    assert torch.equal(again.is_temporal, heads.is_temporal)
    for text in ("", "[]", "{}", '{"base_model": "wan", "rule": "code", "spatial": [[1]], "temporal": [[1, 2]]}'):
        with pytest.raises(ValueError, match="no head map"):
            HeadMap.from_text(text)


def test_bad_maps_are_refused_in_words():
    with pytest.raises(ValueError, match="none called .magic."):
        HeadMap("wan", torch.ones(1, 1), torch.ones(1, 1), "magic")
    with pytest.raises(ValueError, match="infinite"):
        HeadMap("wan", torch.ones(1, 1), torch.full((1, 1), float("nan")))
    model = build("wan", heads=2, blocks=2)
    HeadMap("wan", torch.ones(2, 2), torch.ones(2, 2)).check(model)
    for name, shape in (("wan", (3, 2)), ("wan", (2, 3)), ("ltx", (2, 2))):
        other = HeadMap(name, torch.ones(shape), torch.ones(shape))
        with pytest.raises(ValueError, match="classify its heads anew"):
            other.check(model)


def test_a_video_of_one_frame_or_one_place_cannot_be_classified():
    for grid in ((1, 4, 4), (5, 1, 1)):
        with pytest.raises(ValueError, match="told apart"):
            HeadScores(1, 1, grid, 8, torch.Generator())


def qk_by_hand(family, model, call):
    """q and k of the first block's video tokens, (heads, tokens, width), from the block's own layers, without torch's
    attention: the reference for what is watched."""
    seen = {}
    attention = model.get_submodule(spec_for(model).taps[0].input)
    hook = attention.register_forward_pre_hook(lambda m, a, kw: seen.update(args=a, kw=kw), with_kwargs=True)
    with torch.no_grad():
        call(model)
    hook.remove()
    x = seen["args"][0] if seen["args"] else seen["kw"]["hidden_states"]
    heads = model.config.num_attention_heads
    q, k = attention.to_q(x), attention.to_k(x)
    rope = seen["kw"].get("image_rotary_emb")
    if rope is None:
        rope = seen["args"][3] if family == "wan" else seen["args"][-1]

    def split(t):
        return t.unflatten(-1, (heads, -1)).transpose(1, 2)

    if family in ("wan", "ltx"):
        q, k = attention.norm_q(q), attention.norm_k(k)
    if family == "ltx":
        q, k = (rotate(t, *rope) for t in (q, k))
    q, k = split(q), split(k)
    if family in ("cogvideox", "hunyuan_video"):
        q, k = attention.norm_q(q), attention.norm_k(k)
    if family != "ltx":
        cos, sin = (t.reshape(-1, t.shape[-1]) for t in rope)
        q, k = (rotate(t, cos, sin) for t in (q, k))
    return q[0], k[0]


def rotate(x, cos, sin):
    pairs = x.unflatten(-1, (-1, 2))
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
    return x * cos + turned * sin


@pytest.mark.parametrize("family", ["cogvideox", "hunyuan_video", "wan", "ltx"])
def test_what_is_watched_is_the_attention_of_the_model(family, monkeypatch):
    """In all families the q and k that are scored are those of the video, with norms and positions, text left out."""
    model = build(family)
    call = call_for(family, model, batch=1)
    spec = spec_for(model)
    observed = {}
    monkeypatch.setattr(HeadScores, "observe", lambda self, block, q, k: observed.setdefault(block, (q, k)))
    scores = HeadScores(spec.num_blocks, 2, call.grid, 16, torch.Generator())
    with torch.no_grad():
        plain = call(model)
        with watched_attention(model, scores):
            watched = call(model)
        assert torch.equal(plain, watched) and torch.equal(plain, call(model))
    assert sorted(observed) == list(range(spec.num_blocks))
    q, k = qk_by_hand(family, model, call)
    torch.testing.assert_close(observed[0][0], q, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(observed[0][1], k, rtol=1e-4, atol=1e-5)
    tokens = math.prod(call.grid)
    assert all(q.shape == k.shape == (2, tokens, 16) for q, k in observed.values())


def embedded(num_layers=2):
    torch.manual_seed(0)
    transformer = build_transformer(num_layers=num_layers, num_heads=2).eval().requires_grad_(False)
    return DiffusersDenoiser(transformer, build_scheduler())


def test_the_embedded_model_is_read_and_left_as_it_was():
    denoiser = embedded()
    processors = [block.attn1.processor for block in denoiser.transformer.transformer_blocks]
    latents, cond = torch.randn(1, 16, 9, 8, 8), {"encoder_hidden_states": torch.randn(1, 8, 64)}
    few = classify_heads(denoiser, latents, cond, draws=2)
    assert few.spatial.shape == (2, 2) and few.base_model == "embedded"
    assert [block.attn1.processor for block in denoiser.transformer.transformer_blocks] == processors
    assert "forward" not in denoiser.transformer.transformer_blocks[0].attn1.__dict__
    again = classify_heads(denoiser, latents, cond, draws=2)
    assert torch.equal(few.spatial, again.spatial), "the same seed gives the same map"
    whole = classify_heads(denoiser, latents, cond, draws=2, rows=10**6)
    torch.testing.assert_close(few.lean, whole.lean, atol=0.05, rtol=0)  # the noise is the same


def test_a_model_with_another_attention_is_named():
    """A processor that never calls torch's attention leaves its block unread, and the error says which."""
    denoiser = DiffusersDenoiser(build("wan"))
    attention = denoiser.transformer.blocks[1].attn1
    attention.forward = lambda hidden_states, *args, **kwargs: hidden_states
    latents, cond = torch.randn(1, 4, 3, 4, 6), {"encoder_hidden_states": torch.randn(1, 5, 16)}
    with pytest.raises(ValueError, match="block 1 of this wan model cannot be read head by head"):
        classify_heads(denoiser, latents, cond, draws=1)


def test_the_picture_shows_every_head():
    temporal = torch.tensor([[8.0, 1.0], [0.125, 1.0], [1.0, 1.0]])
    picture = draw_heads(HeadMap("wan", torch.ones(3, 2), temporal, "code"))
    from det_core.fym.head_picture import HEADER, MARGIN, SPATIAL, TEMPORAL, cell_size

    size = cell_size(3)

    def cell(block, head):
        return picture.getpixel((MARGIN + block * size + 2, HEADER + head * size + 2))

    assert cell(0, 0) == TEMPORAL and cell(1, 0) == SPATIAL
    assert min(cell(2, 1)) > 240, "a head without preference is pale"
