"""Squares of a picture, turned and sized at will: what a network is shown."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """A square.

    A point of a picture is (x, y) in pixels, from the upper left corner: the first pixel goes from 0 to 1.

    Attributes:
        x: of the centre.
        y: of the centre.
        size: of a side, in pixels.
        turn: radians; positive turns the square clockwise as seen.
    """

    x: float
    y: float
    size: float
    turn: float = 0.0

    def to_picture(self, points: FloatArray) -> FloatArray:
        """Map points of the square, (..., 2 or 3) in [0, 1], to the picture.

        The third coordinate, a depth from some plane, only grows with the square.
        """
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
        mapped = points * np.float32(self.size)
        mapped[..., 0] = self.x + self.size * (cosine * x - sine * y)
        mapped[..., 1] = self.y + self.size * (sine * x + cosine * y)
        return mapped


def cut(image: npt.NDArray[np.uint8], region: Region, pixels: int) -> FloatArray:
    """Cut a square out of a picture, black where the picture does not reach.

    Args:
        image: (H, W, 3).
        region: what to cut.
        pixels: of the result's sides.

    Returns:
        (pixels, pixels, 3), 0 to 255, bilinear; averaged before if it gets much smaller.
    """
    # here, since its import takes seconds that extraction without faces need not wait
    import torch

    height, width = image.shape[:2]
    reach = 0.5 * region.size * (abs(np.cos(region.turn)) + abs(np.sin(region.turn))) + 2
    left, right = (int(np.clip(edge, 0, width)) for edge in (region.x - reach, region.x + reach + 1))
    top, bottom = (int(np.clip(edge, 0, height)) for edge in (region.y - reach, region.y + reach + 1))
    if left >= right or top >= bottom:
        return np.zeros((pixels, pixels, 3), np.float32)
    part = image[top:bottom, left:right]
    shrink = int(min(region.size / pixels, part.shape[0], part.shape[1]))
    if shrink > 1:
        source = torch.from_numpy(_averaged(part, shrink)).permute(2, 0, 1).contiguous()[None]
    else:
        part = np.require(part, requirements=["C", "W"])
        # changing the order of the axes is faster before the values grow to floats
        source = torch.from_numpy(part).permute(2, 0, 1).contiguous()[None].float()
    # what averaging drops at the right and lower edge is less than one of the pixels that remain
    across, down = source.shape[3] * max(shrink, 1), source.shape[2] * max(shrink, 1)
    cosine, sine = float(np.cos(region.turn)) * region.size, float(np.sin(region.turn)) * region.size
    # from the result's [-1, 1] to the part's [-1, 1]
    steps = (torch.arange(pixels, dtype=torch.float32) * 2 + 1) / pixels - 1
    x = steps * (cosine / across) - steps[:, None] * (sine / across) + (2 * (region.x - left) / across - 1)
    y = steps * (sine / down) + steps[:, None] * (cosine / down) + (2 * (region.y - top) / down - 1)
    grid = torch.stack([x, y], dim=-1)[None]
    found = torch.nn.functional.grid_sample(source, grid, padding_mode="zeros", align_corners=False)
    return found[0].permute(1, 2, 0).contiguous().numpy()


def _averaged(image: npt.NDArray[np.uint8], count: int) -> FloatArray:
    """Return the means of blocks of ``count`` by ``count`` pixels of a picture (H, W, 3); what is over is left out."""
    height, width = (side // count for side in image.shape[:2])
    rows = np.zeros((height, width * count, 3), np.uint32)
    for row in range(count):
        rows += image[row : height * count : count, : width * count]
    found = np.zeros((height, width, 3), np.float32)
    for column in range(count):
        found += rows[:, column::count]
    found /= np.float32(count * count)
    return found
