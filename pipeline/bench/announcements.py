"""Who announces which prefix where: a made-up but steady world over a real table of prefixes.

The prefixes and their origin networks (AS) are real (RouteViews). Announced to sites as
interconnection goes: an origin peers at a few exchange points, the more the larger it is; the
largest origins also have sites embedded in their networks, which learn their prefixes and those of
a hundred customers by the shortest path; a site has one or two peers; path lengths and MED belong
to (origin, site); and one prefix in eight is kept back at a site, so that nested prefixes are
announced to other sites than what covers them. All of it follows from hashes of the names: the
same on every machine.
"""

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import UsageError
from pipeline.state.keyindex import mix
from pipeline.state.lpm import Prefixes
from pipeline.wire.address import prefix_bytes
from pipeline.wire.rows import OFFSET, TopicRows
from schemas.registry import BGP_ROUTES

FILE = "routes/routeviews-20151101-prefix-origin.dat.gz"
EMBEDDED_SHARE = 0.75  # of the sites
_U64 = np.uint64
_CHUNK = 500_000
_COLUMNS = ("prefix", "site", "peer", "as_path_len", "med")


def find_routes(data: Path | None) -> Path:
    """The table of prefixes: in `data`, else EDGESTEER_DATA, else ../shared/data beside the
    checkout; UsageError where it is in none of them."""
    named = data or (Path(os.environ["EDGESTEER_DATA"]) if "EDGESTEER_DATA" in os.environ else None)
    root = named or Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (root / FILE).exists():
        raise UsageError(
            f"{root / FILE} is not there: name its folder with --data or EDGESTEER_DATA"
        )
    return root / FILE


def read_prefixes(path: Path) -> tuple[Prefixes, npt.NDArray[np.uint64]]:
    """(prefixes, origin AS) of a `prefix<TAB>asn` file, in the order of the file."""
    hi, lo, length, origin = [], [], [], []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if line.startswith(";"):
                continue
            text, asn = line.split()
            network = ip_network(text)
            address, bits = int(network.network_address), network.prefixlen
            if network.version == 4:
                address, bits = address | 0xFFFF << 32, bits + 96
            hi.append(address >> 64)
            lo.append(address & (1 << 64) - 1)
            length.append(bits)
            origin.append(int(asn))
    prefixes = (np.array(hi, np.uint64), np.array(lo, np.uint64), np.array(length, np.uint8))
    return prefixes, np.array(origin, np.uint64)


def chance(*words: npt.NDArray[np.uint64] | int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) that belongs to these words."""
    stirred = np.zeros(1, dtype=np.uint64)
    for word in words:
        stirred = mix(stirred * _U64(31) + np.asarray(word, dtype=np.uint64) + _U64(1))
    return (stirred >> _U64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Announcements:
    """Equally long columns, by site and then by prefix: a dump of each site's peers in turn.
    `prefix` is a row of `prefixes`."""

    prefixes: Prefixes
    sites: list[str]
    prefix: npt.NDArray[np.int32]
    site: npt.NDArray[np.int32]
    peer: npt.NDArray[np.int32]
    as_path_len: npt.NDArray[np.int32]
    med: npt.NDArray[np.int64]  # -1: without

    def __len__(self) -> int:
        return len(self.prefix)

    def topic_rows(self, chosen: npt.NDArray[np.integer], first: int = 0) -> TopicRows:
        """Those announcements as rows of bgp.routes from offset `first`."""
        hi, lo, length = (column[self.prefix[chosen]] for column in self.prefixes)
        joined, count = prefix_bytes(hi, lo, length).tobytes(), len(chosen)
        names, peer = pl.Series(self.sites), pl.Series([f"192.0.2.{n}" for n in range(256)])
        med = self.med[chosen]
        frame = pl.DataFrame(
            {
                OFFSET: np.arange(first, first + count, dtype=np.int64),
                "site": names.gather(self.site[chosen]),
                "peer": peer.gather(self.peer[chosen]),
                "prefix": pl.Series([joined[at : at + 17] for at in range(0, 17 * count, 17)]),
                "path_id": np.zeros(count, dtype=np.int64),
                "action": pl.repeat("ANNOUNCE", count, dtype=pl.String, eager=True),
                "as_path_len": self.as_path_len[chosen],
                "med": pl.select(pl.when(pl.Series(med >= 0)).then(pl.Series(med))).to_series(),
                "at_ms": np.zeros(count, dtype=np.int64),
            }
        )
        actions = pl.Enum(["ANNOUNCE", "WITHDRAW"])
        frame = frame.with_columns(pl.col("action").cast(actions))
        return TopicRows(BGP_ROUTES.name, {"Route": frame})

    def save(self, path: Path) -> None:
        """Lay the columns down for `load`."""
        hi, lo, length = self.prefixes
        columns: dict[str, Any] = {name: getattr(self, name) for name in _COLUMNS}
        np.savez(path, hi=hi, lo=lo, length=length, sites=np.array(self.sites), **columns)

    @classmethod
    def load(cls, path: Path) -> "Announcements":
        """What `save` laid down."""
        with np.load(path) as held:
            prefixes = (held["hi"], held["lo"], held["length"])
            return cls(prefixes, held["sites"].tolist(), *(held[name] for name in _COLUMNS))

    def chunks(self) -> Iterator[TopicRows]:
        """All of them, half a million at a time."""
        for start in range(0, len(self), _CHUNK):
            yield self.topic_rows(np.arange(start, min(start + _CHUNK, len(self))), start)


def site_names(sites: int) -> list[str]:
    """Exchange points, then sites embedded in networks."""
    embedded = int(sites * EMBEDDED_SHARE)
    exchanges = [f"ix-{number:03d}" for number in range(sites - embedded)]
    return exchanges + [f"isp-{number:03d}" for number in range(embedded)]


def announce(prefixes: Prefixes, origin: npt.NDArray[np.uint64], sites: int = 200) -> Announcements:
    """Announce a table of prefixes with their origins to so many sites."""
    known, which, size = np.unique(origin, return_inverse=True, return_counts=True)
    embedded = int(sites * EMBEDDED_SHARE)
    exchanges = sites - embedded
    hosts = np.resize(known[np.argsort(-size, kind="stable")], embedded)
    # An origin's exchanges: one in 77, and as many again for each doubling of its size.
    wanted = np.minimum(np.frexp(size.astype(np.float64))[1], 8) / 77
    names = site_names(sites)
    word = prefixes[1] ^ prefixes[0] ^ prefixes[2].astype(np.uint64)
    parts: list[tuple[npt.NDArray[np.integer], ...]] = []
    for number in range(sites):
        if number < exchanges:
            member = chance(known, number) < wanted
        else:
            member = chance(known, number) < 100 / len(known)
            member |= known == hosts[number - exchanges]
        for peer in range(2):
            told = member[which] & (chance(word, number) >= 0.125)
            if peer:  # a second peer knows a sixth of it, by other paths
                told &= chance(origin, number, 7) < 1 / 6
            prefix = np.flatnonzero(told).astype(np.int32)
            asn = origin[prefix]
            hops = 1 + (chance(asn, number, peer, 1) * 4).astype(np.int32)
            if number >= exchanges:
                hops = np.where(asn == hosts[number - exchanges], 1, hops)
            with_med = chance(asn, number, 2) < 0.3
            med = np.where(with_med, (chance(asn, number, 3) * 5).astype(np.int64) * 50, -1)
            same = np.ones(len(prefix), dtype=np.int32)
            parts.append((prefix, same * number, same * peer, hops.astype(np.int32), med))
    # What nobody peers for comes over transit, at one exchange.
    alone = np.ones(len(origin), dtype=bool)
    alone[np.concatenate([part[0] for part in parts])] = False
    rest = np.flatnonzero(alone).astype(np.int32)
    same = np.ones(len(rest), dtype=np.int32)
    transit = (chance(origin[rest]) * exchanges).astype(np.int32)
    parts.append((rest, transit, same * 0, same * 4, same.astype(np.int64) * -1))
    prefix, site, peers, hops, med = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Announcements(
        prefixes,
        names,
        prefix.astype(np.int32),
        site.astype(np.int32),
        peers.astype(np.int32),
        hops.astype(np.int32),
        med.astype(np.int64),
    )
