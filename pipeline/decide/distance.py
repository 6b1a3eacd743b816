"""Great-circle distance in whole kilometres, with the same result on every processor.

Idea: the distance decides ties and is published, so its last bit must not depend on the machine.
Sine and cosine do (NumPy and libm choose their code by processor); + - * / do not. So sine and
cosine are series of products and sums, and the arc is never computed: the square of the chord
between two points of the unit sphere grows with the arc, and it is looked up between the squares
that belong to 1, 2, 3, ... kilometres.
Rule: kilometres are rounded down; two sites in the same kilometre tie. Sphere of the mean earth
radius (IUGG: 6371.0088 km), up to 0.5 % off the ellipsoid, far below what a location is known to.
Rejected: haversine by np.sin and np.arcsin (other last bits with AVX-512); math.sin pair by pair
(libm differs too, and a microsecond a pair).
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EARTH_RADIUS_KM = 6371.0088
_RADIANS = 3.141592653589793 / 180.0
_FARTHEST_KM = 20015  # half the circumference
#: Beyond this term the series is below 1e-16 for arguments up to pi.
_LAST_TERM = 30


def _sine(x: Floats, first: int) -> Floats:
    """The series of the sine (first 1) or cosine (first 0) for -pi <= x <= pi, by Horner's rule."""
    square = x * x
    total = np.ones_like(x)
    for term in range(_LAST_TERM + first, first, -2):
        total = 1.0 - square * total / float(term * (term - 1))
    return total * x if first else total


def points(lat: Floats, lon: Floats) -> Floats:
    """Degrees to points of the unit sphere: rows of x, y, z."""
    north, east = lat * _RADIANS, lon * _RADIANS
    flat = _sine(north, 0)
    return np.stack((flat * _sine(east, 0), flat * _sine(east, 1), _sine(north, 1)), axis=-1)


def distance_km(a: Floats, b: Floats) -> npt.NDArray[np.int32]:
    """Whole kilometres between points, row by row."""
    x, y, z = (a[:, axis] - b[:, axis] for axis in range(3))
    return np.searchsorted(_SQUARES, x * x + y * y + z * z, side="right").astype(np.int32)


def _squares() -> Floats:
    half = _sine(np.arange(1, _FARTHEST_KM + 1) / (2.0 * EARTH_RADIUS_KM), 1)
    return 4.0 * half * half


#: Square of the chord of 1, 2, ... kilometres on the unit sphere.
_SQUARES = _squares()
