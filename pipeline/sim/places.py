"""Where the simulated regions and sites are: real cities, so that distances are real."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EARTH_KM = 6371.0


@dataclass(frozen=True, slots=True)
class City:
    code: str
    name: str
    lat: float
    lon: float


def _cities(*rows: tuple[str, str, float, float]) -> tuple[City, ...]:
    return tuple(City(*row) for row in rows)


#: region: (name, its share of all viewers, cities; the first ones have the exchanges).
REGIONS: dict[str, tuple[str, float, tuple[City, ...]]] = {
    "eu": ("Europe", 0.38, _cities(
        ("fra", "Frankfurt", 50.11, 8.68), ("ams", "Amsterdam", 52.37, 4.90),
        ("lon", "London", 51.51, -0.13), ("par", "Paris", 48.86, 2.35),
        ("mil", "Milan", 45.46, 9.19), ("mad", "Madrid", 40.42, -3.70),
        ("sto", "Stockholm", 59.33, 18.07), ("waw", "Warsaw", 52.23, 21.01),
        ("vie", "Vienna", 48.21, 16.37), ("dub", "Dublin", 53.35, -6.26),
        ("lis", "Lisbon", 38.72, -9.14), ("ath", "Athens", 37.98, 23.73),
        ("hel", "Helsinki", 60.17, 24.94), ("prg", "Prague", 50.08, 14.44),
        ("buh", "Bucharest", 44.43, 26.10), ("osl", "Oslo", 59.91, 10.75))),
    "na": ("North America", 0.36, _cities(
        ("was", "Ashburn", 39.04, -77.49), ("chi", "Chicago", 41.88, -87.63),
        ("dfw", "Dallas", 32.78, -96.80), ("lax", "Los Angeles", 34.05, -118.24),
        ("nyc", "New York", 40.71, -74.01), ("sea", "Seattle", 47.61, -122.33),
        ("mia", "Miami", 25.76, -80.19), ("atl", "Atlanta", 33.75, -84.39),
        ("den", "Denver", 39.74, -104.99), ("sjc", "San Jose", 37.34, -121.89),
        ("yto", "Toronto", 43.65, -79.38), ("ymq", "Montreal", 45.50, -73.57),
        ("mex", "Mexico City", 19.43, -99.13), ("phx", "Phoenix", 33.45, -112.07),
        ("msp", "Minneapolis", 44.98, -93.27), ("yvr", "Vancouver", 49.28, -123.12))),
    "ap": ("Asia-Pacific", 0.26, _cities(
        ("tyo", "Tokyo", 35.68, 139.69), ("sin", "Singapore", 1.35, 103.82),
        ("hkg", "Hong Kong", 22.32, 114.17), ("syd", "Sydney", -33.87, 151.21),
        ("sel", "Seoul", 37.57, 126.98), ("osa", "Osaka", 34.69, 135.50),
        ("bom", "Mumbai", 19.08, 72.88), ("del", "Delhi", 28.61, 77.21),
        ("bkk", "Bangkok", 13.76, 100.50), ("jkt", "Jakarta", -6.21, 106.85),
        ("kul", "Kuala Lumpur", 3.14, 101.69), ("mnl", "Manila", 14.60, 120.98),
        ("tpe", "Taipei", 25.03, 121.57), ("mel", "Melbourne", -37.81, 144.96),
        ("akl", "Auckland", -36.85, 174.76), ("per", "Perth", -31.95, 115.86))),
    "sa": ("South America", 0.16, _cities(
        ("sao", "Sao Paulo", -23.55, -46.63), ("bue", "Buenos Aires", -34.60, -58.38),
        ("scl", "Santiago", -33.45, -70.67), ("bog", "Bogota", 4.71, -74.07),
        ("rio", "Rio de Janeiro", -22.91, -43.17), ("lim", "Lima", -12.05, -77.04),
        ("for", "Fortaleza", -3.73, -38.53), ("uio", "Quito", -0.18, -78.47))),
    "af": ("Africa", 0.08, _cities(
        ("jnb", "Johannesburg", -26.20, 28.05), ("nbo", "Nairobi", -1.29, 36.82),
        ("los", "Lagos", 6.52, 3.38), ("cai", "Cairo", 30.04, 31.24),
        ("cpt", "Cape Town", -33.92, 18.42), ("acc", "Accra", 5.60, -0.19),
        ("cas", "Casablanca", 33.57, -7.59), ("dar", "Dar es Salaam", -6.79, 39.21))),
    "me": ("Middle East", 0.10, _cities(
        ("dxb", "Dubai", 25.20, 55.27), ("tlv", "Tel Aviv", 32.09, 34.78),
        ("ist", "Istanbul", 41.01, 28.98), ("ruh", "Riyadh", 24.71, 46.68),
        ("doh", "Doha", 25.29, 51.53), ("amm", "Amman", 31.95, 35.93),
        ("bah", "Manama", 26.23, 50.59), ("kwi", "Kuwait City", 29.38, 47.98))),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Region:
    """`weight`: its share of all viewers, before it is set against the other regions'."""

    id: str
    name: str
    weight: float
    cities: tuple[City, ...]

    @property
    def lat(self) -> float:
        return round(sum(city.lat for city in self.cities) / len(self.cities), 2)

    @property
    def lon(self) -> float:
        return round(sum(city.lon for city in self.cities) / len(self.cities), 2)


def regions(count: int) -> list[Region]:
    """The first `count` regions; beyond the map's own, they come again as eu2, na2 and so on."""
    names = list(REGIONS)
    found = []
    for number in range(count):
        again, index = divmod(number, len(names))
        title, weight, cities = REGIONS[names[index]]
        suffix = str(again + 1) if again else ""
        found.append(Region(names[index] + suffix, f"{title} {suffix}".strip(), weight, cities))
    return found


def distance_km(
    lat: npt.NDArray[np.float64],
    lon: npt.NDArray[np.float64],
    other_lat: npt.NDArray[np.float64],
    other_lon: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Great-circle distance (haversine) between degrees; the arrays broadcast."""
    a, b = np.radians(lat), np.radians(other_lat)
    half = np.sin((b - a) / 2) ** 2
    half = half + np.cos(a) * np.cos(b) * np.sin(np.radians(other_lon - lon) / 2) ** 2
    distance: npt.NDArray[np.float64] = 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
    return distance
