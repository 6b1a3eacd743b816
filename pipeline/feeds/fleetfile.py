"""The inventory file: regions, sites, clusters, appliances and networks in TOML or JSON.

Idea: a person keeps the fleet in a file under version control; what is wrong with it is said all at
once and with lines, before anything is published.
Rule: every id once; an appliance names its site and the site its region, so that the region is
never written twice; what a file refers to stands in the file or in the inventory already.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.broker.configfile import in_words
from pipeline.errors import ConfigError
from pipeline.feeds.keys import inventory_key
from pipeline.feeds.locate import Lines, json_lines, line_of, toml_lines
from pipeline.feeds.reports import Address, Count, Id, Prefix
from pipeline.wire.address import parse_address, parse_prefix

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(?:bps|bit/s)?")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BPS_MAX = 10**14  # what the fold believes of a capacity


def _rate(value: object) -> object:
    """`40_000_000_000` or "40G", "1.2 Tbps", in bits/s."""
    if isinstance(value, str):
        found = _RATE.fullmatch(value.strip())
        if not found:
            raise ValueError('a rate is a number of bits/s or text such as "40G" or "1.2 Tbps"')
        return round(float(found[1]) * _UNITS[found[2]])
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Rate = Annotated[Count, Field(le=BPS_MAX), BeforeValidator(_rate)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
Class = Annotated[Literal["VOD", "LIVE", "GAME"], BeforeValidator(_upper)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RegionEntry(_Entry):
    """The unit of partitioning; `lat`, `lon`: where its clients are taken to be."""

    id: Id
    name: str = ""
    lat: Latitude
    lon: Longitude


class LinkEntry(_Entry):
    """A link that a site's egress leaves by."""

    id: Id
    capacity_bps: Rate


class SiteEntry(_Entry):
    """A place with appliances. `also`: more regions whose clients it serves; its home is
    `region`."""

    id: Id
    region: Id
    also: list[Id] = Field(default_factory=list)
    name: str = ""
    kind: Annotated[Literal["EMBEDDED", "IX"], BeforeValidator(_upper)] = "IX"
    lat: Latitude
    lon: Longitude
    links: list[LinkEntry] = Field(default_factory=list)


class ClusterEntry(_Entry):
    """Appliances of one site that are managed together."""

    id: Id
    site: Id


class ApplianceEntry(_Entry):
    """A cache server."""

    id: Id
    site: Id
    cluster: Id | None = None
    capacity_bps: Rate
    serves: Annotated[list[Class], Field(min_length=1)] = ["VOD", "LIVE", "GAME"]
    addresses: list[Address] = Field(default_factory=list)


class NetworkEntry(_Entry):
    """Where a client network stands on the map."""

    prefix: Prefix
    region: Id
    lat: Latitude
    lon: Longitude


class FleetFile(_Entry):
    """The whole file: TOML arrays of tables `[[region]]`, `[[site]]`, ... or JSON lists."""

    region: list[RegionEntry] = Field(default_factory=list)
    site: list[SiteEntry] = Field(default_factory=list)
    cluster: list[ClusterEntry] = Field(default_factory=list)
    appliance: list[ApplianceEntry] = Field(default_factory=list)
    network: list[NetworkEntry] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Item:
    """One record of fleet.inventory: schema name, region (which gives the partition), fields.
    `also`: more regions in whose partitions it stands, there as of that region."""

    name: str
    region: str
    fields: dict[str, Any]
    also: tuple[str, ...] = ()

    @property
    def regions(self) -> tuple[str, ...]:
        """All of them, its home first."""
        return (self.region, *self.also)

    def of(self, region: str) -> "Item":
        """As it stands in one of them."""
        return Item(self.name, region, {**self.fields, "region": region})


@dataclass(slots=True)
class Known:
    """What the inventory holds already: site -> region, cluster -> site, and the regions; `also`:
    site -> more regions that it serves."""

    regions: frozenset[str] = frozenset()
    sites: Mapping[str, str] = field(default_factory=dict)
    clusters: Mapping[str, str] = field(default_factory=dict)
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class FleetFileError(ConfigError):
    """Everything that is wrong with a file, one `path:line: what` a line."""

    def __init__(self, path: str, errors: list[tuple[int, str]]) -> None:
        self.errors = sorted(errors)
        lines = [f"{path}:{line}: {what}" for line, what in self.errors]
        super().__init__("\n".join(lines))
        self.path = path


def load(path: Path) -> tuple[FleetFile, Lines]:
    """The file and the lines of what it holds. Raises ConfigError when it cannot be read or parsed,
    FleetFileError with all that is wrong with its values."""
    data, lines = _parse(path)
    try:
        return FleetFile.model_validate(data), lines
    except ValidationError as error:
        found = []
        for each in error.errors(include_url=False, include_context=False):
            where = _where(each["loc"], data)
            found.append((line_of(lines, each["loc"]), f"{where}: {in_words(each)}"))
        raise FleetFileError(str(path), found) from None


def _parse(path: Path) -> tuple[Any, Lines]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", path=str(path)) from None
    try:
        if path.suffix == ".json" or text.lstrip()[:1] == "{":
            return json.loads(text), json_lines(text)
        return tomllib.loads(text), toml_lines(text)
    except json.JSONDecodeError as error:
        raise ConfigError(error.msg, path=str(path), line=error.lineno) from None
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else len(text.splitlines())
        raise ConfigError(str(error), path=str(path), line=line) from None


def _where(loc: tuple[str | int, ...], data: Any) -> str:
    """`site fra1, lat`: the entry by its id where it has one."""
    if len(loc) < 2 or not isinstance(loc[1], int):
        return ".".join(map(str, loc)) or "the file"
    entry = data[loc[0]][loc[1]]
    name = entry.get("id", entry.get("prefix")) if isinstance(entry, dict) else None
    entity = f"{loc[0]} {name}" if name else f"{loc[0]} {loc[1] + 1}"
    return ", ".join([entity, ".".join(map(str, loc[2:]))]) if loc[2:] else entity


def resolve(
    file: FleetFile, lines: Lines, path: str, known: Known | None = None
) -> dict[bytes, Item]:
    """Key -> record of everything in the file. `known`: what references may point to beside the
    file itself. Raises FleetFileError with every duplicate and every reference to nothing."""
    resolver = _Resolver(file, lines, known or Known())
    items = resolver.items()
    if resolver.errors:
        raise FleetFileError(path, resolver.errors)
    return items


class _Resolver:
    def __init__(self, file: FleetFile, lines: Lines, known: Known) -> None:
        self.file, self.lines = file, lines
        self.errors: list[tuple[int, str]] = []
        self.regions = known.regions | {each.id for each in file.region}
        self.sites = {**known.sites, **{each.id: each.region for each in file.site}}
        also = {each.id: tuple(dict.fromkeys(each.also)) for each in file.site}
        self.also = {**known.also, **also}
        self.clusters = {**known.clusters, **{each.id: each.site for each in file.cluster}}
        self._seen: dict[bytes, int] = {}
        self._links: dict[str, int] = {}

    def items(self) -> dict[bytes, Item]:
        found: dict[bytes, Item] = {}
        for kind in ("region", "site", "cluster", "appliance", "network"):
            for index, entry in enumerate(getattr(self.file, kind)):
                line = line_of(self.lines, (kind, index))
                name = entry.prefix if kind == "network" else entry.id
                key = inventory_key(kind, name)
                if key in self._seen:
                    first = self._seen[key]
                    self._say(line, f"{kind} {name} stands here again, first in line {first}")
                self._seen.setdefault(key, line)
                make = getattr(self, f"_{kind}")
                site = entry.id if kind == "site" else getattr(entry, "site", "")
                also = self.also.get(site, ())
                region, fields = make(entry, (kind, index))
                found[key] = Item(kind.capitalize(), region, fields, also)
        return found

    def _say(self, line: int, what: str) -> None:
        self.errors.append((line, what))

    def _refer(
        self, known: Any, kind: str, name: str, by: str, path: tuple[str | int, ...]
    ) -> bool:
        if name in known:
            return True
        self._say(line_of(self.lines, path), f"{by} names {kind} {name}, which there is not")
        return False

    def _region(self, entry: RegionEntry, _: tuple[str, int]) -> tuple[str, dict[str, Any]]:
        fields = {"region": entry.id, "name": entry.name or entry.id}
        return entry.id, fields | {"lat": entry.lat, "lon": entry.lon}

    def _site(self, entry: SiteEntry, path: tuple[str, int]) -> tuple[str, dict[str, Any]]:
        by = f"site {entry.id}"
        self._refer(self.regions, "region", entry.region, by, (*path, "region"))
        for name in entry.also:
            self._refer(self.regions, "region", name, by, (*path, "also"))
            if name == entry.region:
                self._say(line_of(self.lines, (*path, "also")), f"{by} is of {name} anyway")
        for index, link in enumerate(entry.links):
            line = line_of(self.lines, (*path, "links", index))
            if link.id in self._links:
                first = self._links[link.id]
                self._say(line, f"link {link.id} stands here again, first in line {first}")
            self._links.setdefault(link.id, line)
        links = [{"link": link.id, "capacity_bps": link.capacity_bps} for link in entry.links]
        fields: dict[str, Any] = {"site": entry.id, "region": entry.region}
        fields |= {"name": entry.name or entry.id}
        fields |= {"kind": entry.kind, "lat": entry.lat, "lon": entry.lon, "links": links}
        also = self.also[entry.id]
        fields["regions"] = [entry.region, *also] if also else []
        return entry.region, fields

    def _cluster(self, entry: ClusterEntry, path: tuple[str, int]) -> tuple[str, dict[str, Any]]:
        self._refer(self.sites, "site", entry.site, f"cluster {entry.id}", (*path, "site"))
        region = self.sites.get(entry.site, "")
        return region, {"cluster": entry.id, "site": entry.site, "region": region}

    def _appliance(
        self, entry: ApplianceEntry, path: tuple[str, int]
    ) -> tuple[str, dict[str, Any]]:
        by = f"appliance {entry.id}"
        self._refer(self.sites, "site", entry.site, by, (*path, "site"))
        cluster = entry.cluster or ""
        if cluster and self._refer(self.clusters, "cluster", cluster, by, (*path, "cluster")):
            home = self.clusters[cluster]
            if home != entry.site:
                line = line_of(self.lines, (*path, "cluster"))
                self._say(line, f"{by} is at {entry.site}, its cluster {cluster} at {home}")
        region = self.sites.get(entry.site, "")
        fields: dict[str, Any] = {"appliance": entry.id, "site": entry.site}
        fields |= {"cluster": cluster, "region": region}
        fields |= {"capacity_bps": entry.capacity_bps, "serves": list(dict.fromkeys(entry.serves))}
        return region, fields | {"addresses": [parse_address(each) for each in entry.addresses]}

    def _network(self, entry: NetworkEntry, path: tuple[str, int]) -> tuple[str, dict[str, Any]]:
        by = f"network {entry.prefix}"
        self._refer(self.regions, "region", entry.region, by, (*path, "region"))
        fields = {"network": parse_prefix(entry.prefix), "region": entry.region}
        return entry.region, fields | {"lat": entry.lat, "lon": entry.lon}
