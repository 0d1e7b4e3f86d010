"""How far figures of several seeds lie apart."""

import numpy as np
import numpy.typing as npt


def std_over_seeds(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the sample standard deviation over the first axis; NaN for fewer than two values, of which it is unknown.

    >>> float(std_over_seeds([1.0, 3.0])).__round__(3), float(std_over_seeds([1.0]))
    (1.414, nan)
    """
    given = np.asarray(values, np.float64)
    return np.asarray(given.std(axis=0, ddof=1) if len(given) > 1 else np.full(given.shape[1:], np.nan))
