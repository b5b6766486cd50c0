"""How a video codec takes pixel frames to latent frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameMap:
    """How many consecutive pixel frames each latent frame is made of: those of `first`, then those of `then`, over and
    over.

    Convention: frames count from 0. A video's length is legal if it ends where `first`, or a whole `then`, ends.
    Example:
        >>> FrameMap((1,), (4,)).spans(3)  # a causal codec that takes 4k+1 frames
        [range(0, 1), range(1, 5), range(5, 9)]
        >>> FrameMap((), (1, 8, 8)).nearest(49)  # one that takes chunks of 17
        (34, 51)
    """

    first: tuple[int, ...]
    then: tuple[int, ...]

    @property
    def rule(self) -> str:
        """The legal lengths in words: "4k+1"."""
        start, step = sum(self.first), sum(self.then)
        return f"{step if step > 1 else ''}k" + (f"+{start}" if start else "")

    @property
    def even(self) -> bool:
        """Whether latent frames are as far apart as pixel frames are: every one is a frame of its own."""
        return set(self.first + self.then) == {1}

    def spans(self, latent_frames: int) -> list[range]:
        """The pixel frames of each of the first `latent_frames` latent frames."""
        rounds = -(-max(0, latent_frames - len(self.first)) // len(self.then))
        found, start = [], 0
        for count in (self.first + self.then * rounds)[:latent_frames]:
            found.append(range(start, start + count))
            start += count
        return found

    def read_at(self, latent_frames: int) -> list[int]:
        """The pixel frame that stands for each latent frame: the last of its span, as DeT reads tracks (0, 4, 8, ...
        with 4x compression)."""
        return [span[-1] for span in self.spans(latent_frames)]

    def position(self, frame: float) -> float:
        """Where a pixel frame stands among the latent frames: k at `read_at`(k), linear between."""
        count = 2
        while (read := self.read_at(count))[-1] < frame:
            count += 1
        before, after = read[-2:]
        return count - 2 + max(0.0, (frame - before) / (after - before))

    def frames(self, latent_frames: int) -> int:
        """How many pixel frames these latent frames are decoded to."""
        return self.spans(latent_frames)[-1].stop

    def latent_frames(self, frames: int) -> int:
        """How many latent frames a video of `frames` frames becomes. Raises: as `check`."""
        self.check(frames)
        return len(self.first) + (frames - sum(self.first)) // sum(self.then) * len(self.then)

    def nearest(self, frames: int) -> tuple[int, int]:
        """The longest legal length of at most `frames` (0 if there is none) and the shortest above that."""
        start, step = sum(self.first), sum(self.then)
        whole = (frames - start) // step
        if whole < 0 or start + whole * step <= 0:
            return 0, start or step
        return start + whole * step, start + (whole + 1) * step

    def check(self, frames: int) -> None:
        """Raises ValueError, naming the two nearest legal lengths, if the codec does not take so many frames."""
        below, above = self.nearest(frames)
        if frames != below or not below:
            choice = f"{below} or {above}" if below else f"{above}"
            raise ValueError(f"the model needs {self.rule} frames, not {frames}: ask for {choice} frames")
