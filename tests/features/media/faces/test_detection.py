import numpy as np
import pytest

from affectus.features.media.faces.detection import Detection, anchors, decode, merge, overlap, views


def found(left: float, top: float, side: float, score: float) -> Detection:
    box = np.array([left, top, left + side, top + side], np.float32)
    points = np.tile(box[:2] + side / 2, (6, 1)).astype(np.float32)
    points[0, 0] -= side / 4
    points[1, 0] += side / 4
    return Detection(box, points, score)


def test_anchors_are_two_grids() -> None:
    centres = anchors()
    assert centres.shape == (896, 2)
    assert centres[0] == pytest.approx([1 / 32, 1 / 32])
    assert centres[2] == pytest.approx([3 / 32, 1 / 32])  # along a row first, two per cell
    assert centres[512] == pytest.approx(centres[517])  # six per cell
    assert centres[518] == pytest.approx([3 / 16, 1 / 16])
    assert centres[-1] == pytest.approx([15 / 16, 15 / 16])


def test_decoding_adds_the_anchor_and_drops_what_is_unlikely() -> None:
    regressors, logits = np.zeros((896, 16), np.float32), np.full(896, -50, np.float32)
    logits[600] = 2.0
    regressors[600] = [12.8, -6.4, 64, 32, *range(12)]
    points, scores = decode(regressors, logits, anchors())
    assert scores == pytest.approx([1 / (1 + np.exp(-2))])
    x, y = anchors()[600] + [0.1, -0.05]
    assert points[0, :2].ravel() == pytest.approx([x - 0.25, y - 0.125, x + 0.25, y + 0.125], abs=1e-6)
    assert points[0, 3] == pytest.approx(anchors()[600] + [2 / 128, 3 / 128], abs=1e-6)


def test_overlap() -> None:
    a = np.array([0, 0, 2, 2], np.float32)
    assert overlap(a, np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 3, 3], [5, 5, 5, 5]])) == pytest.approx(
        [1, 1 / 3, 0, 0]
    )


def test_merging_takes_the_weighted_mean_of_what_overlaps() -> None:
    merged = merge([found(10, 10, 20, 0.6), found(100, 0, 20, 0.9), found(14, 10, 20, 0.6)])
    assert [one.score for one in merged] == [0.9, 0.6]
    assert merged[1].box == pytest.approx([12, 10, 32, 30])
    assert merge([]) == []


def test_a_box_without_area_is_no_trouble() -> None:
    assert len(merge([found(10, 10, 0, 0.6), found(10, 10, 0, 0.5)])) == 2


def test_the_square_is_turned_as_the_eyes_are() -> None:
    one = found(10, 20, 40, 0.9)
    assert one.region.turn == pytest.approx(0)
    one.points[1] += [0, 20]  # the person's left eye is lower
    region = one.region
    assert (region.x, region.y, region.size) == pytest.approx((30, 40, 60))
    assert region.turn == pytest.approx(np.pi / 4)


@pytest.mark.parametrize(("height", "width", "count"), [(400, 400, 1), (360, 400, 1), (360, 640, 4), (640, 360, 4)])
def test_long_pictures_are_looked_at_in_parts(height: int, width: int, count: int) -> None:
    shown = views(height, width)
    assert len(shown) == count
    assert shown[0].size == max(height, width)
    for one in shown[1:]:
        assert one.x - one.size / 2 >= 0
        assert one.x + one.size / 2 <= width
        assert one.y - one.size / 2 >= 0
        assert one.y + one.size / 2 <= height


def test_the_parts_of_a_very_long_picture_are_few() -> None:
    assert len(views(10, 640)) == 9
