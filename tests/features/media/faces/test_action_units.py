import numpy as np
import pytest

from affectus.features.media.faces.action_units import (
    ACTION_UNITS,
    BLENDSHAPES,
    JOINT,
    MAPPING,
    VISION_COLUMNS,
    WEAK,
    action_units,
)


def face(**values: float) -> np.ndarray:
    found = np.zeros(len(BLENDSHAPES), np.float32)
    for name, value in values.items():
        names = [name] if name in BLENDSHAPES else [f"{name}Left", f"{name}Right"]
        found[[BLENDSHAPES.index(one) for one in names]] = value
    return found


def units(**values: float) -> dict[str, float]:
    found = action_units(face(**values))
    return {unit: pytest.approx(float(x), abs=1e-4) for unit, x in zip(ACTION_UNITS, found, strict=True) if x}


def test_columns_are_74_different_names() -> None:
    assert len(VISION_COLUMNS) == len(set(VISION_COLUMNS)) == 52 + 17 + 3 + 2
    assert VISION_COLUMNS[:52] == BLENDSHAPES
    assert VISION_COLUMNS[52:69] == ACTION_UNITS


def test_every_action_unit_is_mapped_from_known_blendshapes() -> None:
    assert tuple(MAPPING) == ACTION_UNITS
    assert {shape for weights in MAPPING.values() for shape in weights} <= set(BLENDSHAPES)
    assert {unit for unit, pair in JOINT.items() for unit in (unit, *pair)} <= set(ACTION_UNITS)


def test_both_sides_count_alike() -> None:
    assert units(browOuterUp=1.0) == {"AU02": 5.0}
    assert units(browOuterUpLeft=1.0) == units(browOuterUpRight=1.0) == {"AU02": 2.5}


def test_a_smile_raises_the_cheeks_only_if_the_eyes_take_part() -> None:
    assert units(mouthSmile=0.9) == {"AU12": 4.5}
    assert units(mouthSmile=0.9, eyeSquint=0.4) == {"AU06": 3.0, "AU07": 2.0, "AU12": 4.5}


def test_a_wrinkled_nose_is_brows_and_upper_lip_together() -> None:
    assert units(mouthUpperUp=0.4)["AU10"] == 2.0
    assert "AU09" not in units(mouthUpperUp=0.4)
    assert units(mouthUpperUp=0.4, browDown=0.9)["AU09"] == 3.0
    assert units(noseSneer=0.9)["AU09"] == 4.5


def test_lips_stay_closed_over_an_open_jaw() -> None:
    assert units(jawOpen=0.6) == {"AU25": 3.0, "AU26": 3.0}
    assert units(jawOpen=0.6, mouthClose=0.8) == {"AU26": 3.0}


def test_values_stay_in_range_in_any_shape() -> None:
    found = action_units(np.random.default_rng(0).uniform(0, 1, (4, 7, 52)))
    assert found.shape == (4, 7, 17)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 5


def test_weak_units_are_left_to_blendshapes_that_hardly_move() -> None:
    assert set(WEAK) <= set(ACTION_UNITS) - set(JOINT)
    assert not set(WEAK) & {unit for pair in JOINT.values() for unit in pair}
