"""The embedded DiT: its corpus, codec, text encoder, reader, and the weights that are shipped."""

import pytest
import torch

from det_core.models.embedded.attention import MatmulAttention
from det_core.models.embedded.base_model import EmbeddedModel, consistency, scene_of, sprite_path, sprite_tracks
from det_core.models.embedded.codec import PatchCodec
from det_core.models.embedded.corpus import FAMILIES, SIZE, UNSEEN_FAMILIES, Scene, make_clip, random_clip
from det_core.models.embedded.gate import measure, sample_scenes
from det_core.models.embedded.model import WEIGHTS, TinyModel, build_transformer
from det_core.models.embedded.reader import read_clip
from det_core.models.embedded.text import WIDTH, WordEncoder
from det_core.models.embedded.train import SpriteBatches, TinyTrainConfig, Trainer, fresh_model


@pytest.fixture(scope="module")
def clips():
    generator = torch.Generator().manual_seed(11)
    return [random_clip(generator, Scene.all()) for _ in range(40)]


def test_held_out_scenes_are_an_eighth_and_never_trained_on():
    assert len(Scene.held_out()) == len(Scene.all()) // 8
    assert not set(Scene.held_out()) & set(Scene.training())


def test_captions_name_appearance_and_parse_back():
    for scene in Scene.all()[::7]:
        assert scene_of(scene.caption) == scene
        assert not set(scene.caption.split()) & {*FAMILIES, *UNSEEN_FAMILIES, "moving", "left", "right"}
    assert scene_of("a dancer on a stage") is None


@pytest.mark.parametrize("family", [*FAMILIES, *UNSEEN_FAMILIES])
def test_every_path_stays_inside_and_moves(family):
    generator = torch.Generator().manual_seed(5)
    for scene in Scene.all()[:10]:
        path = make_clip(scene, family, generator).path
        assert path.min() >= 12 and path.max() <= SIZE - 12
        assert (path[1:] - path[:-1]).norm(dim=-1).sum() > 8


def test_the_reader_reads_rendered_clips(clips):
    for clip in clips:
        reading = read_clip(clip.frames)
        assert reading.agreement(clip.scene)["edit_fidelity"] == 1.0
        assert reading.is_corpus_clip
        assert (reading.centres - clip.path).norm(dim=-1).max() < 2.5
        assert consistency(reading) == 1.0


def test_the_reader_sees_what_is_wrong(clips):
    frames = next(clip for clip in clips if clip.scene.pattern == "plain").frames.clone()
    frames[3] = frames[0, 0, 0]  # a frame without a sprite
    reading = read_clip(frames)
    assert not reading.seen[3] and reading.seen.sum() == 8
    assert not reading.is_corpus_clip
    path = sprite_path(reading)
    assert not path.visible[0, 3] and torch.equal(path.points[0, 3], path.points[0, 2])
    assert consistency(reading) == pytest.approx(6 / 8)
    noise = torch.rand(9, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    assert not read_clip(noise).is_corpus_clip


def test_sprite_tracks_move_with_the_sprite(clips):
    reading = read_clip(clips[1].frames)
    tracks = sprite_tracks(reading, torch.tensor([[0.2, 0.3], [0.5, 0.5]]))
    shift = (reading.centres[-1] - reading.centres[0]) / SIZE
    assert torch.allclose(tracks.points[:, -1] - tracks.points[:, 0], shift.expand(2, 2), atol=1e-6)


def test_the_codec_is_a_projection(clips):
    codec = PatchCodec.fit(torch.cat([c.frames for c in clips]))
    frames = torch.stack([c.frames for c in clips])
    latents = codec.encode(frames)
    assert latents.shape == (40, 16, 9, 8, 8)
    assert latents.std().item() == pytest.approx(1.0, abs=0.1)
    once = codec.decode(latents)
    assert -10 * torch.log10((frames - once).square().mean()) > 27  # dB
    faint = codec.encode(0.5 + 0.2 * (frames - 0.5))  # decodes within [0, 1], where nothing is clamped
    assert torch.allclose(codec.encode(codec.decode(faint)), faint, atol=1e-4)
    colours = [read_clip(video).agreement(c.scene)["edit_fidelity"] for video, c in zip(once, clips, strict=True)]
    assert sum(colours) / len(colours) > 0.98


def test_words_keep_their_place_and_unknown_ones_are_named(caplog):
    encoder = WordEncoder.create(torch.Generator().manual_seed(0))
    one, swapped, empty = encoder.encode(
        ["a red circle on a navy plain background", "a circle on a red plain background", ""]
    )
    assert one.shape == (8, WIDTH)
    assert one[:4].norm(dim=-1).min() > 0 and one[4:].abs().sum() == 0
    assert not torch.equal(one[0], swapped[1]), "the same colour before and after 'on' must differ"
    assert empty.abs().sum() == 0
    with caplog.at_level("WARNING"):
        encoder.encode(["a red dancer on a navy plain background"])
    assert "dancer" in caplog.text and "star" in caplog.text


def test_matmul_attention_is_the_library_attention():
    torch.manual_seed(0)
    ours = build_transformer(num_layers=2).eval()
    from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0

    video, text, t = torch.randn(2, 9, 16, 8, 8), torch.randn(2, 8, 64), torch.tensor([10, 900])
    with torch.no_grad():
        mine = ours(video, text, t, return_dict=False)[0]
        assert any(isinstance(p, MatmulAttention) for p in ours.attn_processors.values())
        ours.set_attn_processor(CogVideoXAttnProcessor2_0())
        theirs = ours(video, text, t, return_dict=False)[0]
    assert torch.allclose(mine, theirs, atol=2e-5)


def test_tensors_rebuild_the_model():
    torch.manual_seed(1)
    codec = PatchCodec(torch.rand(192), torch.rand(16, 192), torch.rand(16))
    tiny = TinyModel(build_transformer(2).eval(), codec, WordEncoder.create(torch.Generator().manual_seed(2)))
    again = TinyModel.from_tensors(tiny.tensors())
    x, e, t = torch.randn(1, 9, 16, 8, 8), again.text.encode(["a red circle"]), torch.tensor([5])
    with torch.no_grad():
        a, b = (m.transformer(x, e, t, return_dict=False)[0] for m in (tiny, again))
    assert torch.equal(a, b)


@pytest.mark.slow
def test_base_training_resumes_exactly(tmp_path):
    config = TinyTrainConfig(image_steps=2, video_steps=3, image_batch=2, video_batch=1, pool_size=4, pool_steps=2)

    def trainer() -> Trainer:
        model = fresh_model(config)
        return Trainer(model, SpriteBatches(model, config), config, "cpu")

    whole = trainer()
    for _ in range(5):
        whole.train_step()
    first = trainer()
    for _ in range(3):
        first.train_step()
    torch.save(first.state(), tmp_path / "state.pt")
    second = trainer()
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(2):
        second.train_step()
    for a, b in zip(whole.master.parameters(), second.master.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_the_shipped_weights_are_small_and_draw_what_they_are_told():
    assert WEIGHTS.stat().st_size <= 12_000_000
    model = EmbeddedModel()
    scenes = Scene.held_out()[::8]
    result = measure(sample_scenes(model, scenes, seed=3, batch=6), scenes)
    assert result["colour"] > 0.85 and result["background"] > 0.9 and result["no_sprite"] < 0.05
    assert result["shape"] > 0.6
    assert result["path_px"] > 15
