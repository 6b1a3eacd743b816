"""What the simulated edge says, as the rows that the decoder would hand to a cell.

The frames have the columns of the schemas, so nothing is encoded only to be decoded again.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.sim.loop.layout import Layout
from pipeline.sim.loop.reports import News
from pipeline.wire.catalog import CATALOG
from pipeline.wire.plan import Kind, plan_of
from pipeline.wire.rows import OFFSET, TopicRows
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    FLEET_INVENTORY,
    PLAY_EVENTS,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
)

#: Equally long columns by name: arrays, Series or lists.
Given = Mapping[str, Any]
REGION = "cell"
_FIRST_ASN = 64_500
_PACKETS = 500  # a path sample tells of, as seen in what is sent to a network in a minute
_HOST = bytes(10) + b"\xff\xff" + bytes((192, 0, 2, 1))


class Frames:
    """Makes each second's rows; offsets go on from call to call."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._next: dict[str, int] = {}
        self._names = pl.Series(layout.names)
        self._sites = pl.Series(layout.site_names)
        self._links = pl.Series(layout.link_names())
        self._clients = pl.Series([row.tobytes() for row in layout.clients()])
        self._prefixes = pl.Series([row.tobytes() for row in layout.prefixes()])
        self._hops = layout.hops.astype(np.int64)
        self._up = layout.candidate >= 0

    def beginning(self, now_ms: int) -> dict[str, TopicRows]:
        """The inventory, and every session with all its routes."""
        layout = self._layout
        network, candidate = np.nonzero(self._up)
        site, isp = np.divmod(np.arange(layout.sites * layout.size.isps), layout.size.isps)
        return {
            FLEET_INVENTORY.name: self._inventory(),
            BGP_ROUTES.name: self._topic(
                BGP_ROUTES.name,
                [
                    ("PeerUp", self._session(site, isp, now_ms)),
                    ("Route", self._route(network, candidate, np.True_, now_ms)),
                ],
            ),
        }

    def rows(self, news: News) -> dict[str, TopicRows]:
        """What arrived in a second, by topic."""
        made: dict[str, list[tuple[str, Given]]] = {}
        if (health := news.get("health")) is not None:
            named = {**health, "appliance": self._names.gather(health["appliance"])}
            del named["load"]  # a number of the world's, not of the schema's
            named["drain_by_ms"] = np.zeros(len(health["appliance"]), np.int64)
            made[APPLIANCE_HEALTH.name] = [("Health", named)]
        if (links := news.get("links")) is not None:
            linked = {**links, "link": self._links.gather(links["link"])}
            made[TRAFFIC_LINKS.name] = [("LinkSample", linked)]
        if (plays := news.get("plays")) is not None:
            made[PLAY_EVENTS.name] = [("PlayEvent", self._plays(plays))]
        if (paths := news.get("paths")) is not None:
            made[TRAFFIC_PATHS.name] = [("PathSample", self._paths(paths))]
        if routing := self._routing(news):
            made[BGP_ROUTES.name] = routing
        return {topic: self._topic(topic, frames) for topic, frames in made.items()}

    def _plays(self, plays: Given) -> Given:
        zero = np.zeros(len(plays["network"]), np.int64)
        return {
            "session": plays["network"] * 1000 + plays["appliance"],
            "at_ms": plays["at_ms"],
            "event": plays["event"],
            "client": self._clients.gather(plays["network"]),
            "appliance": self._names.gather(plays["appliance"]),
            "file": zero,
            "traffic_class": plays["class"],
            "bytes": plays["bytes"],
            "bitrate_bps": plays["bitrate_bps"],
            "startup_ms": zero,
            "stall_ms": plays["stall_ms"],
        }

    def _paths(self, paths: Given) -> Given:
        count = len(paths["network"])
        site = self._layout.candidate[paths["network"], paths["candidate"]]
        return {
            "site": self._sites.gather(site),
            "client": self._prefixes.gather(paths["network"]),
            "at_ms": paths["at_ms"],
            "rtt_us": paths["rtt_us"],
            "loss": paths["loss"],
            "throughput_bps": np.full(count, 50_000_000),
            "samples": np.full(count, _PACKETS),
        }

    def _routing(self, news: News) -> list[tuple[str, Given]]:
        """Sessions that go, then those that come with all their routes, then single changes."""
        made: list[tuple[str, Given]] = []
        if (sessions := news.get("sessions")) is not None:
            site, isp, up = sessions["site"], sessions["isp"], sessions["up"].astype(bool)
            if (~up).any():
                made.append(("PeerDown", self._session(site[~up], isp[~up], news.now_ms, "hold")))
            if up.any():
                made.append(("PeerUp", self._session(site[up], isp[up], news.now_ms)))
                back = np.zeros((self._layout.sites, self._layout.size.isps), bool)
                back[site[up], isp[up]] = True
                mine = back[self._layout.candidate, self._layout.isp[:, None]] & self._up
                network, candidate = np.nonzero(mine)
                made.append(("Route", self._route(network, candidate, np.True_, news.now_ms)))
        if (routes := news.get("routes")) is not None:
            at = routes["network"], routes["candidate"]
            self._hops[at], self._up[at] = routes["hops"], routes["up"]
            made.append(("Route", self._route(*at, routes["up"], news.now_ms)))
        return made

    def _route(
        self,
        network: npt.NDArray[np.int64],
        candidate: npt.NDArray[np.int64],
        up: npt.NDArray[np.bool_] | np.bool_,
        now_ms: int,
    ) -> Given:
        count = len(network)
        site, isp = self._layout.candidate[network, candidate], self._layout.isp[network]
        return {
            "site": self._sites.gather(site),
            "peer": pl.Series([f"isp{one}" for one in isp.tolist()], dtype=pl.String),
            "peer_asn": _FIRST_ASN + isp.astype(np.int64),
            "prefix": self._prefixes.gather(network),
            "path_id": np.zeros(count, np.int64),
            "action": np.where(np.broadcast_to(up, count), 0, 1),
            "as_path": pl.Series([""] * count, dtype=pl.String),
            "as_path_len": self._hops[network, candidate],
            "med": pl.Series([None] * count, dtype=pl.Int64),
            "local_pref": pl.Series([None] * count, dtype=pl.Int64),
            "communities": pl.Series([[]] * count, dtype=pl.List(pl.Int64)),
            "next_hop": pl.Series([_HOST] * count, dtype=pl.Binary),
            "at_ms": np.full(count, now_ms),
        }

    def _session(
        self,
        site: npt.NDArray[np.int64],
        isp: npt.NDArray[np.int64],
        now_ms: int,
        cause: str = "",
    ) -> Given:
        columns = {
            "site": self._sites.gather(site),
            "peer": pl.Series([f"isp{one}" for one in isp.tolist()], dtype=pl.String),
            "peer_asn": _FIRST_ASN + isp.astype(np.int64),
            "at_ms": np.full(len(site), now_ms),
        }
        return {**columns, "cause": pl.Series([cause] * len(site))} if cause else columns

    def _inventory(self) -> TopicRows:
        layout = self._layout
        room = layout.link_bps.astype(np.int64).tolist()
        names = layout.link_names()
        links = [
            [{"link": names[at], "capacity_bps": room[at]} for at in (2 * site, 2 * site + 1)]
            for site in range(layout.sites)
        ]
        appliances, networks = len(layout.site), len(layout.metro)
        regions = [REGION] * max(layout.sites, appliances, networks)
        return self._topic(
            FLEET_INVENTORY.name,
            [
                ("Region", {"region": [REGION], "name": [REGION], "lat": [48.0], "lon": [9.0]}),
                (
                    "Site",
                    {
                        "site": layout.site_names,
                        "region": regions[: layout.sites],
                        "name": layout.site_names,
                        "kind": np.where(layout.site_isp < 0, 1, 0),
                        "lat": layout.site_lat,
                        "lon": layout.site_lon,
                        "links": links,
                        "regions": [[]] * layout.sites,
                    },
                ),
                (
                    "Appliance",
                    {
                        "appliance": layout.names,
                        "site": self._sites.gather(layout.site),
                        "cluster": [""] * appliances,
                        "region": regions[:appliances],
                        "capacity_bps": layout.port_bps.astype(np.int64),
                        "serves": [["VOD", "LIVE"]] * appliances,
                        "addresses": [[]] * appliances,
                    },
                ),
                (
                    "Network",
                    {
                        "network": self._prefixes,
                        "region": regions[:networks],
                        "lat": layout.lat,
                        "lon": layout.lon,
                    },
                ),
            ],
        )

    def _topic(self, topic: str, frames: list[tuple[str, Given]]) -> TopicRows:
        """Frames by record; where one record comes twice, one behind the other."""
        rows = TopicRows(topic)
        for record, columns in frames:
            made = _frame(record, columns)
            first = self._next.get(topic, 0)
            self._next[topic] = first + made.height
            offset = pl.int_range(first, first + made.height, dtype=pl.Int64, eager=True)
            made = made.with_columns(offset.alias(OFFSET))
            before = rows.frames.get(record)
            rows.frames[record] = made if before is None else pl.concat([before, made])
        return rows

    def offsets(self) -> dict[str, int]:
        """Next offset of every topic that has had rows."""
        return dict(self._next)


@cache
def _kinds(record: str) -> dict[str, Kind]:
    schema = CATALOG.current(record)
    return plan_of(schema, schema).kinds


def _frame(record: str, columns: Given) -> pl.DataFrame:
    """The frame of a record; enumerations are given by their numbers."""
    made = []
    for name, kind in _kinds(record).items():
        column = columns[name]
        if kind.symbols is not None and not kind.is_list:
            made.append(kind.symbols.gather(column).alias(name))
        else:
            series = column if isinstance(column, pl.Series) else pl.Series(column)
            made.append(pl.Series(name, series, dtype=kind.dtype))
    return pl.DataFrame(made)
