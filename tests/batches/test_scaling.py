import numpy as np
import pytest

from affectus.batches import Scale, Scaler
from affectus.errors import AffectusError

NAN, INF = np.nan, np.inf


def test_standard() -> None:
    x = np.random.default_rng(0).normal(3, 5, size=(50, 4)).astype(np.float32)
    scaled = Scaler.fit({"text": x}, Scale.STANDARD).apply("text", x)
    np.testing.assert_allclose(scaled, (x - x.mean(axis=0)) / x.std(axis=0), atol=1e-5)
    assert scaled.dtype == np.float32


def test_max() -> None:
    x = np.array([[1.0, -8.0, 0.0], [2.0, 4.0, 0.0]])
    np.testing.assert_allclose(Scaler.fit({"a": x}, Scale.MAX).apply("a", x), [[0.5, -1, 0], [1, 0.5, 0]])


def test_none() -> None:
    x = np.array([[1.0, NAN], [-2.0, 4.0]])
    np.testing.assert_array_equal(Scaler.fit({"a": x}, Scale.NONE).apply("a", x), [[1, 0], [-2, 4]])


@pytest.mark.parametrize("scale", list(Scale))
def test_what_is_not_finite_takes_no_part_and_becomes_zero(scale) -> None:
    dirty = np.array([[1.0, NAN, NAN], [3.0, 4.0, INF], [-INF, 8.0, -INF]])
    scaler = Scaler.fit({"a": dirty}, scale)
    scaled = scaler.apply("a", dirty)
    assert np.isfinite(scaled).all()
    assert (scaled[~np.isfinite(dirty)] == 0).all()
    if scale is Scale.STANDARD:
        np.testing.assert_allclose(scaler.shift["a"][:2], [2.0, 6.0])
        np.testing.assert_allclose(scaler.factor["a"][:2], [1.0, 0.5])


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 1e8, -3e-9])
def test_a_constant_column_becomes_zero(value: float) -> None:
    x = np.full((1000, 1), value, np.float32)
    scaler = Scaler.fit({"a": x}, Scale.STANDARD)
    assert scaler.factor["a"] == 0
    assert scaler.apply("a", np.array([[7.0]])) == 0


def test_rounding_noise_is_not_blown_up() -> None:
    """A column that is zero but for noise of 1e-9 counts as constant; one of true values of 1e-6 does not."""
    rng = np.random.default_rng(0)
    x = np.stack([1e-9 * rng.normal(size=100), 1e-6 * rng.normal(size=100), 5 + 1e-7 * rng.normal(size=100)], axis=1)
    assert (Scaler.fit({"a": x}, Scale.STANDARD).factor["a"] > 0).tolist() == [False, True, False]


def test_no_training_vector_at_all() -> None:
    for scale in Scale:
        scaler = Scaler.fit({"a": np.zeros((0, 2), np.float32)}, scale)
        assert np.isfinite(scaler.apply("a", np.array([[1.0, 2.0]]))).all()


def test_arrays_round_trip() -> None:
    x = np.random.default_rng(0).normal(size=(9, 2))
    scaler = Scaler.fit({"text": x, "audio": x + 1}, Scale.STANDARD)
    again = Scaler.from_arrays(scaler.arrays())
    assert set(scaler.arrays()) == {"text.shift", "text.factor", "audio.shift", "audio.factor"}
    np.testing.assert_array_equal(again.apply("audio", x), scaler.apply("audio", x))


def test_another_width() -> None:
    scaler = Scaler.fit({"text": np.ones((2, 3))}, Scale.STANDARD)
    with pytest.raises(AffectusError, match=r"'text' has another width than in training: got 4; expected 3"):
        scaler.apply("text", np.ones((2, 4)))
