"""Which blocks keep their kernels: the paper's share, and lists of blocks as text."""

from __future__ import annotations

import pytest

from det_core.models.families import (
    format_blocks,
    kept_blocks,
    parse_blocks,
)


@pytest.mark.parametrize(
    ("count", "drop", "kept"),
    [(42, 0.65, 15), (8, 0.65, 3), (60, 0.65, 21), (60, 2 / 3, 20), (60, 40 / 60, 20), (48, 0.66, 17), (10, 0.7, 3)]
    + [(42, 0.0, 42), (42, 1.0, 0), (1, 0.65, 1), (100, 0.29, 71), (100, 0.57, 43)],
)
def test_kept_blocks(count, drop, kept):
    assert kept_blocks(count, drop) == list(range(kept))


def test_default_drop_is_the_papers():
    assert kept_blocks(42) == list(range(15))


@pytest.mark.parametrize("drop", [-0.1, 1.5, float("nan")])
def test_impossible_fractions_are_refused(drop):
    with pytest.raises(ValueError, match="between 0 and 1"):
        kept_blocks(42, drop)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("0-14, 20", [*range(15), 20]),
        ("3", [3]),
        (" 5 - 7 ,1,6 ", [1, 5, 6, 7]),
        ("", []),
        ("2,2-2", [2]),
        ("0-41", [*range(42)]),
    ],
)
def test_parse_blocks(text, blocks):
    assert parse_blocks(text, 42) == blocks
    assert parse_blocks(format_blocks(blocks), 42) == blocks


def test_format_blocks():
    assert format_blocks([20, 2, 1, 0, 4, 4]) == "0-2, 4, 20"
    assert format_blocks([]) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3-99", r'"3-99" asks for block 99, but this model has blocks 0 to 41'),
        ("42", r'"42" asks for block 42'),
        ("a-b", r'cannot read "a-b" as blocks'),
        ("-3", r'cannot read "-3"'),
        ("3-", r'cannot read "3-"'),
        ("1.5", r'cannot read "1.5"'),
        ("1 2", r'cannot read "1 2"'),
        ("0-14; 20", r'cannot read "0-14; 20"'),
        ("5-3", r'"5-3" runs backwards: write "3-5"'),
    ],
)
def test_bad_block_lists_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_blocks(text, 42)
