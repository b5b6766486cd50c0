"""The numbers of steps, read late: what was not finite stays known, and the first such step is named."""

import math

import torch

from det_core.training.run import LossReader


def sent(reader: LossReader, loss: float) -> None:
    value = torch.tensor(loss, requires_grad=True)
    reader.send({"total": value}, torch.tensor(1.0), torch.empty(0, dtype=torch.uint8))


def test_a_bad_step_is_not_forgotten_by_a_second_one():
    reader = LossReader({}, lag=1)
    sent(reader, 1.0)
    assert reader.read() is None and reader.losses == {"total": [1.0]} and reader.bad is None
    for loss, bad in ((2.0, False), (math.nan, True), (math.inf, True), (3.0, True)):
        sent(reader, loss)
        assert reader.bad.item() is bad
    assert reader.read(lag=3) is None and reader.losses == {"total": [1.0, 2.0]}
    found = reader.read()
    assert found.what == "the total loss became nan" and found.steps_after == 2
    assert reader.losses == {"total": [1.0, 2.0]} and reader.read() is None
