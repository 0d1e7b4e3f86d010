import numpy as np
import pytest

from affectus.features.media.faces.regions import Region, cut


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_square_of_the_same_size_is_the_picture_itself() -> None:
    image = picture()
    assert np.allclose(cut(image, Region(30, 25, 40), 40), image[5:45, 10:50], atol=0.01)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns(quarters: int) -> None:
    image = picture()
    found = cut(image, Region(30, 25, 40, quarters * np.pi / 2), 40)
    assert np.allclose(found, np.rot90(image[5:45, 10:50], quarters), atol=0.05)


def test_outside_the_picture_is_black() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    found = cut(image, Region(0, 20, 40), 40)
    assert found[:, :20].max() < 0.01
    assert np.allclose(found[1:-1, 21:], 200, atol=0.01)
    assert cut(image, Region(500, 500, 30), 8).max() == 0


def test_a_much_smaller_result_is_an_average() -> None:
    image = picture(64, 64)
    found = cut(image, Region(32, 32, 64), 16)
    assert np.allclose(found, image.reshape(16, 4, 16, 4, 3).mean((1, 3)), atol=0.05)


def test_points_lie_where_the_result_shows_them() -> None:
    region = Region(33.0, 27.0, 30.0, 0.4)
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:23, 36:39] = 255
    found = cut(image, region, 90)[..., 0]
    row, column = (float((found * axis).sum() / found.sum()) for axis in np.mgrid[:90, :90])
    back = region.to_picture(np.array([[(column + 0.5) / 90, (row + 0.5) / 90, 0.5]], np.float32))
    assert back[0] == pytest.approx([37.5, 21.5, 15.0], abs=0.05)


def test_the_smallest_picture() -> None:
    image = np.full((1, 1, 3), 99, np.uint8)
    assert np.isfinite(cut(image, Region(0.5, 0.5, 1.0), 128)).all()


def test_a_picture_that_must_not_be_written() -> None:
    image = picture()
    image.flags.writeable = False
    assert np.allclose(cut(image, Region(30, 25, 40), 40), image[5:45, 10:50], atol=0.01)
