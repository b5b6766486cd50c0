"""CLIP and DINO metrics against transformers' own answers, on small random checkpoints written by the test."""

import json

import pytest
import torch
import torch.nn.functional as F

from det_core.metrics import diversity, edit_fidelity, leakage, temporal_consistency
from det_core.metrics.features import ClipFeatures, VisionFeatures

transformers = pytest.importorskip("transformers")


def frames(count=5, height=40, width=56, seed=0):
    return torch.randint(0, 256, (count, height, width, 3), generator=torch.Generator().manual_seed(seed)).to(
        torch.uint8
    )


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(c) for c in range(33, 127)]
    words = [
        *letters,
        *(letter + "</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    torch.manual_seed(0)
    text = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "projection_dim": 8,
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 8,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def vision_folder(folder, kind):
    from transformers import BitImageProcessor, ViTImageProcessor

    torch.manual_seed(1)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    if kind == "vit":
        from transformers import ViTConfig, ViTModel

        model = ViTModel(ViTConfig(intermediate_size=24, **small), add_pooling_layer=False)
        processor = ViTImageProcessor(size={"height": 32, "width": 32})
    elif kind == "dinov2":
        from transformers import Dinov2Config, Dinov2Model

        model = Dinov2Model(Dinov2Config(mlp_ratio=2, **small))
        processor = BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    else:
        from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(mlp_ratio=2, num_register_tokens=3, **small))
        processor = BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder, processor


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    return vision_folder(tmp_path_factory.mktemp("dino"), "dinov2")[0]


@pytest.mark.parametrize("size", [(32, 32), (40, 56), (71, 33)])
def test_edit_fidelity_is_transformers_own_similarity(clip_folder, size):
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    video, prompt = frames(19, *size), "a red dog, on grass."
    model = CLIPModel.from_pretrained(clip_folder, local_files_only=True).eval()
    pixels = CLIPImageProcessor.from_pretrained(clip_folder, local_files_only=True)(
        list(video.numpy()), return_tensors="pt"
    )
    text = CLIPTokenizer.from_pretrained(clip_folder, local_files_only=True)(
        [prompt], truncation=True, max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        out = model(**text, **pixels)
    expected = (out.logits_per_image / model.logit_scale.exp()).mean().item() * 100
    assert edit_fidelity(video, prompt, clip_folder) == pytest.approx(expected, abs=1e-3)
    assert edit_fidelity(video.float() / 255, prompt, clip_folder) == pytest.approx(expected, abs=1e-3)
    assert edit_fidelity(video, "another thing", clip_folder) != pytest.approx(expected, abs=1e-3)


def test_long_prompts_are_cut_to_the_models_length(clip_folder):
    with_tail = [edit_fidelity(frames(), "abcdefghijklmnopqrst" + tail, clip_folder) for tail in ("uvw", "xyz")]
    assert with_tail[0] == with_tail[1]


@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov2_with_registers"])
def test_class_tokens_and_patches_are_transformers_own(tmp_path, kind):
    from transformers import AutoModel

    folder, processor = vision_folder(tmp_path, kind)
    video = frames(18, 50, 37)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        hidden = model(**processor(list(video.numpy()), return_tensors="pt")).last_hidden_state
    features = VisionFeatures(folder)
    tokens = F.normalize(hidden[:, 0], dim=-1)
    assert torch.allclose(features.class_tokens(video), tokens, atol=1e-5)
    patches = F.normalize(hidden[:, hidden.shape[1] - 16 :], dim=-1)  # 4 x 4 patches close the sequence
    assert torch.allclose(features.region(video), F.normalize(patches.mean((0, 1)), dim=-1), atol=1e-5)

    loops = [F.cosine_similarity(hidden[t, 0], hidden[t + 1, 0], dim=0).item() for t in range(17)]
    assert temporal_consistency(video, features) == pytest.approx(100 * sum(loops) / 17, abs=1e-3)
    first = [F.cosine_similarity(hidden[t, 0], hidden[0, 0], dim=0).item() for t in range(18)]
    previous = [1.0, *loops]
    expected = 100 * (sum(first) / 18 + sum(previous) / 18) / 2
    assert temporal_consistency(video, features, "reference_code") == pytest.approx(expected, abs=1e-3)


def test_a_frozen_video_is_perfectly_consistent(dino_folder):
    still = frames(1).expand(4, -1, -1, -1)
    for variant in ("consecutive", "reference_code"):
        assert temporal_consistency(still, dino_folder, variant) == pytest.approx(100, abs=1e-3)


def test_regions_see_only_what_is_inside_them(dino_folder):
    features = VisionFeatures(dino_folder)
    video = frames(3, 32, 32)
    left = torch.zeros(3, 32, 32, dtype=torch.bool)
    left[:, :, :16] = True
    inside, outside = features.region(video, left), features.region(video, ~left)
    assert not torch.allclose(inside, outside, atol=1e-3)
    assert torch.allclose(features.region(video, torch.ones_like(left)), features.region(video), atol=1e-6)
    assert features.region(video, torch.zeros_like(left)) is None
    prepared = features.preparation.mask(left)  # 32x32 -> 36x36 -> cropped to 32x32: the border moves by nothing
    assert prepared.shape == (3, 32, 32)
    assert prepared[:, :, :14].min() > 0.9 and prepared[:, :, 18:].max() < 0.1


def test_leakage_is_0_for_the_base_and_1_for_the_source(dino_folder):
    source, base, other = frames(4), frames(4, seed=1), frames(6, 48, 48, seed=2)
    masks = {
        name: torch.zeros(4, 40, 56, dtype=torch.bool) for name in ("source_masks", "generated_masks", "base_masks")
    }
    for mask in masks.values():
        mask[:, 10:30, 18:40] = True
    with_base = leakage(source, base, base, dino_folder, **masks)
    assert [
        with_base.whole,
        with_base.background,
        with_base.foreground,
    ] == pytest.approx([0, 0, 0], abs=1e-4)
    with_source = leakage(source, source, base, dino_folder, **masks)
    assert [
        with_source.whole,
        with_source.background,
        with_source.foreground,
    ] == pytest.approx([1, 1, 1], abs=1e-4)
    blend = leakage(
        source,
        torch.where(torch.arange(56)[:, None] < 28, source, base),
        base,
        dino_folder,
    )
    assert blend.background is None and blend.foreground is None
    assert leakage(source, other, base, dino_folder).whole < 1
    assert leakage(source, other, source, dino_folder).whole is None  # nothing left to leak


def test_diversity_of_equal_videos_is_0(dino_folder):
    a, b, c = (frames(3, seed=s) for s in range(3))
    assert diversity([a, a], dino_folder) == pytest.approx(0, abs=1e-3)
    features = VisionFeatures(dino_folder)
    means = [features.class_tokens(v).mean(0) for v in (a, b, c)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(100 * (1 - F.cosine_similarity(means[i], means[j], dim=0).item()) for i, j in pairs) / 3
    assert diversity([a, b, c], features) == pytest.approx(expected, abs=1e-3)


def test_without_a_model_nothing_is_measured():
    video = frames()
    assert edit_fidelity(video, "a dog") is None
    assert temporal_consistency(video) is None
    assert leakage(video, video, video) is None
    assert diversity([video, video]) is None


def test_a_folder_of_the_wrong_kind_is_refused(clip_folder, dino_folder, tmp_path):
    with pytest.raises(ValueError, match="type 'dinov2'; CLIP features need type clip"):
        edit_fidelity(frames(), "a dog", dino_folder)
    with pytest.raises(ValueError, match="type 'clip'; DINO features need type vit or dinov2"):
        temporal_consistency(frames(), clip_folder)
    with pytest.raises(ValueError, match="no config.json"):
        edit_fidelity(frames(), "a dog", tmp_path)
    with pytest.raises(ValueError, match="loaded for CLIP"):
        temporal_consistency(frames(), ClipFeatures(clip_folder))
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text((dino_folder / "config.json").read_text())
    with pytest.raises(ValueError, match="preprocessor_config.json"):
        temporal_consistency(frames(), half)
    (half / "preprocessor_config.json").write_text((dino_folder / "preprocessor_config.json").read_text())
    with pytest.raises(ValueError, match="cannot be loaded"):
        temporal_consistency(frames(), half)
    whole = (dino_folder / "model.safetensors").read_bytes()
    for part in (b"version https://git-lfs.github.com/spec/v1\n", whole[:-9]):
        (half / "model.safetensors").write_bytes(part)
        with pytest.raises(ValueError, match="model.safetensors is not whole"):
            VisionFeatures.check(half)


def test_a_loaded_extractor_stays_and_a_folder_is_freed(dino_folder, monkeypatch):
    features = VisionFeatures(dino_folder)
    temporal_consistency(frames(), features)
    assert features.model is not None
    freed = []
    monkeypatch.setattr(VisionFeatures, "free", lambda self: freed.append(self))
    temporal_consistency(frames(), dino_folder)
    assert len(freed) == 1


def test_bad_input_is_named(dino_folder):
    with pytest.raises(ValueError, match=r"got \(4, 3, 8, 8\)"):
        temporal_consistency(torch.zeros(4, 3, 8, 8), dino_folder)
    with pytest.raises(ValueError, match="only one"):
        temporal_consistency(frames(1), dino_folder)
    with pytest.raises(ValueError, match="'first' is unknown"):
        temporal_consistency(frames(), dino_folder, "first")
    with pytest.raises(ValueError, match="prompt"):
        edit_fidelity(frames(), "  ")
    with pytest.raises(ValueError, match="at least 2"):
        diversity([frames()], dino_folder)
    with pytest.raises(ValueError, match="missing: generated, base"):
        leakage(
            frames(),
            frames(),
            frames(),
            source_masks=torch.ones(5, 40, 56, dtype=torch.bool),
        )
    masks = dict.fromkeys(
        ("source_masks", "generated_masks", "base_masks"),
        torch.ones(5, 8, 8, dtype=torch.bool),
    )
    with pytest.raises(ValueError, match="source masks"):
        leakage(frames(), frames(), frames(), **masks)
