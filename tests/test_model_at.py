"""A model at one time of a sampling: with guidance it is asked once for all videos, with and without their prompts."""

from types import SimpleNamespace

import torch

from det_core.models.sample import ModelAt


class Asked:
    """Answers with the prompt's number, and keeps what it was asked."""

    spec = SimpleNamespace(embedded_guidance=False)

    def predict_velocity(self, x, t, cond, guidance=1.0):
        self.x, self.t = x, t
        return torch.ones_like(x) * cond["number"].view(-1, 1)


def test_guidance_of_several_videos_at_once():
    denoiser, x = Asked(), torch.arange(6.0).view(2, 3)
    prompts, empty = {"number": torch.tensor([4.0, 5.0])}, {"number": torch.tensor([1.0, 2.0])}
    at = ModelAt(denoiser, torch.tensor(300.0), prompts, empty, cfg=6.0)
    assert at.velocity(x).tolist() == [[1 + 6 * 3.0] * 3, [2 + 6 * 3.0] * 3]
    assert torch.equal(denoiser.x, torch.cat([x, x])) and denoiser.t.tolist() == [300.0] * 4
    assert at.with_prompt(x).tolist() == [[4.0] * 3, [5.0] * 3] and denoiser.t.tolist() == [300.0] * 2
