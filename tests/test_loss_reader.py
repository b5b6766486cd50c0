"""The numbers of steps, read late: what was not finite stays known, and the first such step is named."""

import math

import pytest
import torch

from det_core.training.run import LossReader, StepNumbers


def sent(reader: LossReader, loss: float) -> None:
    value = torch.tensor(loss, requires_grad=True)
    reader.send({"total": value}, torch.tensor(1.0), torch.empty(0, dtype=torch.uint8))


def test_a_read_that_was_stopped_is_done_again(monkeypatch):
    """Ctrl-C while it waits for the device: the step is still there, and has its one place among the losses."""
    reader, own = LossReader({}, lag=1), StepNumbers.read

    def stopped(_numbers):
        raise KeyboardInterrupt

    sent(reader, 1.0)
    sent(reader, 2.0)
    monkeypatch.setattr(StepNumbers, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        reader.read()
    monkeypatch.setattr(StepNumbers, "read", own)
    reader.losses["total"] = [1.0]  # as where the stop came after the number, before the step was taken off
    assert reader.read() is None and reader.losses == {"total": [1.0, 2.0]}


def test_a_bad_step_is_not_forgotten_by_a_second_one():
    reader = LossReader({}, lag=1)
    sent(reader, 1.0)
    assert reader.read() is None and reader.losses == {"total": [1.0]} and reader.bad is None
    for loss, bad in ((2.0, False), (math.nan, True), (math.inf, True), (3.0, True)):
        sent(reader, loss)
        assert reader.bad.item() is bad
    assert reader.read(lag=3) is None and reader.losses == {"total": [1.0, 2.0]}
    found = reader.read()
    assert found.what == "the total loss became nan" and found.before == 2
    assert reader.losses == {"total": [1.0, 2.0]} and reader.read() is None
