"""Pixel frames and latent frames: every codec's map agrees with chunks counted one by one."""

import pytest

from det_core.media.frame_map import FrameMap

CAUSAL_4, CAUSAL_8 = FrameMap((1,), (4,)), FrameMap((1,), (8,))
H3 = FrameMap((1, 4), (4, 4, 4, 1, 4))
CHUNKS = FrameMap((), (1, 8, 8))
EVERY = FrameMap((), (1,))


@pytest.mark.parametrize(
    ("codec", "rule", "legal", "latent"),
    [
        (CAUSAL_4, "4k+1", [1, 5, 9, 49], [1, 2, 3, 13]),
        (CAUSAL_8, "8k+1", [1, 9, 97], [1, 2, 13]),
        (H3, "17k+5", [5, 22, 39, 124], [2, 7, 12, 37]),
        (CHUNKS, "17k", [17, 34, 51, 204], [3, 6, 9, 36]),
        (EVERY, "k", [1, 2, 9], [1, 2, 9]),
    ],
)
def test_legal_lengths_and_their_latent_frames(codec, rule, legal, latent):
    assert codec.rule == rule and codec.even == (codec is EVERY)
    assert [codec.latent_frames(frames) for frames in legal] == latent
    assert [codec.frames(count) for count in latent] == legal
    taken = [frames for frames in range(1, legal[-1] + 1) if codec.nearest(frames)[0] == frames]
    assert set(legal) <= set(taken)
    for frames in set(range(1, legal[-1])) - set(taken):
        with pytest.raises(ValueError, match="the model needs"):
            codec.check(frames)


@pytest.mark.parametrize("codec", [CAUSAL_4, CAUSAL_8, H3, CHUNKS, EVERY])
def test_spans_follow_each_other_and_a_latent_frame_is_read_at_its_last(codec):
    spans = codec.spans(23)
    assert spans[0].start == 0 and all(a.stop == b.start for a, b in zip(spans, spans[1:], strict=False))
    assert codec.read_at(23) == [span.stop - 1 for span in spans]
    assert [codec.position(frame) for frame in codec.read_at(23)] == list(range(23))


def test_uneven_codecs_by_hand():
    assert [len(span) for span in H3.spans(12)] == [1, 4, 4, 4, 4, 1, 4, 4, 4, 4, 1, 4]
    assert CHUNKS.read_at(6) == [0, 8, 16, 17, 25, 33]
    assert CAUSAL_4.position(6) == 1.5 and CHUNKS.position(16.5) == 2.5


@pytest.mark.parametrize(
    ("codec", "frames", "message"),
    [
        (CAUSAL_4, 48, "needs 4k+1 frames, not 48: ask for 45 or 49 frames"),
        (H3, 49, "needs 17k+5 frames, not 49: ask for 39 or 56 frames"),
        (H3, 3, "needs 17k+5 frames, not 3: ask for 5 frames"),
        (CHUNKS, 49, "needs 17k frames, not 49: ask for 34 or 51 frames"),
        (CHUNKS, 0, "needs 17k frames, not 0: ask for 17 frames"),
        (EVERY, 0, "needs k frames, not 0: ask for 1 frames"),
    ],
)
def test_the_two_nearest_lengths_are_named(codec, frames, message):
    with pytest.raises(ValueError) as caught:
        codec.check(frames)
    assert message in str(caught.value)
