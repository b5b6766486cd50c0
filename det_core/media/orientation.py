"""How a picture stands, as a video file says it: cameras write it as the sensor lies and add a matrix."""

from __future__ import annotations

import struct

import torch


def upright(picture: torch.Tensor, matrix: bytes | None) -> torch.Tensor:
    """The picture (H, W, ...) turned and mirrored by whole quarters as its display matrix says; a view.

    matrix: nine 32-bit integers in the machine's byte order, FFmpeg's display matrix (a b u, c d v, x y w): a pixel at
        (x, y), y down, is shown at (a x + c y, b x + d y). Other turns than quarters go to the nearest one. None: as it
        is.
    """
    if matrix is None or len(matrix) < 36:
        return picture
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    if not (a or b or c or d):
        return picture
    if abs(a) + abs(d) >= abs(b) + abs(c):
        right, down = a, d
    else:
        picture, right, down = picture.transpose(0, 1), c, b
    mirrored = [axis for axis, sign in ((0, down), (1, right)) if sign < 0]
    return picture.flip(mirrored) if mirrored else picture
