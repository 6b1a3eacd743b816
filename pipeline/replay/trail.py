"""What went by while a cell was folded, as far as it can matter to one address: the records that
count now (provenance.py), every verdict with the report behind it, what changed at which cut."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.effects import Block, Effects, VerdictRow
from pipeline.reasons import Reason
from pipeline.replay.fold import Step
from pipeline.replay.liveroutes import LiveRoutes, RouteNews
from pipeline.replay.provenance import (
    Around,
    Inventory,
    Newest,
    Records,
    Source,
    accepted,
)
from pipeline.state.fleet import CLASSES, Fleet
from pipeline.state.health import Service
from pipeline.state.playrows import regions_of, wanted_bytes
from pipeline.wire.rows import OFFSET, Refused, TopicRows
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    FLEET_INVENTORY,
    PLAY_EVENTS,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
)


@dataclass(frozen=True, slots=True)
class Told:
    """A verdict; `report`: offset of the health report that it rests on, -1 where none does."""

    partition: int
    cut: int
    at_ms: int
    row: VerdictRow
    report: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the clients of a block drew in the window of demand, as far as it was recorded: by class
    the bits per second, by serving appliance the plays. `source` is the newest play, with the run
    that it ends."""

    level_bps: tuple[int, ...]
    by_appliance: dict[str, int]
    source: Source | None


class Plays:
    """The plays of the address's client block, as long as they are in the window of demand."""

    def __init__(self, around: Around) -> None:
        block = around.block
        self._block = block[: block[16] // 8]
        self._frames: list[pl.DataFrame] = []

    def take(self, frame: pl.DataFrame, fleet: Fleet, now_ms: int, config: SteeringConfig) -> None:
        """Accepted rows of a cut."""
        since_ms, _ = _window(now_ms, config)
        recent = (one.filter(pl.col("at_ms") >= since_ms) for one in self._frames)
        self._frames = [one for one in recent if one.height]
        frame = frame.filter(pl.col("client").bin.starts_with(self._block))
        region, _ = regions_of(fleet.appliances.index(frame.get_column("appliance")), fleet)
        frame = frame.select(
            OFFSET,
            "appliance",
            pl.Series("bytes", wanted_bytes(frame)),
            pl.col("traffic_class").to_physical().alias("class"),
            pl.col("at_ms").clip(upper_bound=now_ms),
            pl.Series("region", region, dtype=pl.Int32),
        ).filter(pl.col("at_ms") >= since_ms)
        if frame.height:
            self._frames.append(frame)

    def drawn(self, region: int, now_ms: int, config: SteeringConfig, records: Records) -> Drawn:
        """What of a region's demand they make at a time."""
        since_ms, until_ms = _window(now_ms, config)
        whole = (pl.col("at_ms") >= since_ms) & (pl.col("at_ms") < until_ms)
        kept = [one.filter(whole & (pl.col("region") == region)) for one in self._frames]
        kept = [one for one in kept if one.height]
        if not kept:
            return Drawn((0,) * len(CLASSES), {}, None)
        frame = pl.concat(kept)
        size = frame.get_column("bytes").to_numpy()
        total = np.zeros(len(CLASSES), np.int64)
        np.add.at(total, frame.get_column("class").to_numpy(), size)
        level = tuple(int(one) * 8000 // config.inputs.demand_window_ms for one in total)
        counts = frame.group_by("appliance").len().sort("appliance")
        first, last = frame.get_column(OFFSET).min(), frame.get_column(OFFSET).max()
        assert isinstance(first, int) and isinstance(last, int)
        found = records.at(PLAY_EVENTS.name, last)
        source = None if found is None else found.ending(first, frame.height)
        return Drawn(level, dict(counts.iter_rows()), source)


def _window(now_ms: int, config: SteeringConfig) -> tuple[int, int]:
    """When the complete buckets of the ring of demand begin and end."""
    bucket_ms = config.inputs.demand_bucket_ms
    until_ms = now_ms // bucket_ms * bucket_ms
    return until_ms + config.inputs.demand_window_ms // -bucket_ms * bucket_ms, until_ms


class Trail:
    """Follows the fold of one cell."""

    def __init__(self, address: bytes) -> None:
        self.address = address
        self._around = around = Around(address)
        self.first_cut = 0
        self.inventory, self.routes = Inventory(around), LiveRoutes(around)
        self.health = Newest(later=True)
        self.links, self.paths = Newest(later=False), Newest(later=False)
        self.plays = Plays(around)
        self.verdicts: list[Told] = []
        #: (cut, ...) of what changed, in order; routes and paths at the tick whose tables took
        #: them over.
        self.route_news: list[tuple[int, RouteNews]] = []
        self.inventory_news: list[tuple[int, str, str, int]] = []
        self.path_news: list[tuple[int, str, int]] = []
        self.configs: list[tuple[int, str]] = []
        #: (table topic, key) -> the cut that published it last; of prefixes those around.
        self.published: dict[tuple[str, bytes], int] = {}
        # What tables have not taken over yet: rows of routes, and (name, offset) of samples.
        self._waiting: list[tuple[TopicRows, list[Refused], int, SteeringConfig]] = []
        self._waiting_paths: list[tuple[str, int]] = []

    def take(self, step: Step) -> None:
        """The next cut that counts."""
        cut, config, effects = step.cut, step.config, step.effects
        self.first_cut = self.first_cut or cut.number
        if not self.configs or self.configs[-1][1] != cut.config_hash:
            self.configs.append((cut.number, cut.config_hash))
        if FLEET_INVENTORY.name in step.rows:
            refused = effects.refused.get(FLEET_INVENTORY.name, [])
            news = self.inventory.take(step.rows[FLEET_INVENTORY.name], refused)
            self.inventory_news += [(cut.number, *one) for one in news]
        self._take_telemetry(step)
        self._take_what_decides_tables(step)
        plays = _frame(step, PLAY_EVENTS.name, "PlayEvent")
        if plays is not None:
            self.plays.take(plays, step.cell.fleet, cut.at_ms, config)
        self._take_effects(effects, cut.number)

    def site_path(self, site: str, prefix: bytes) -> str:
        """The name under which `paths` keeps the samples of a site towards a prefix."""
        return f"{site}|{prefix.hex()}"

    def _take_what_decides_tables(self, step: Step) -> None:
        """Routes and samples of paths count once the tables have taken them over."""
        number, cell = step.cut.number, step.cell
        if BGP_ROUTES.name in step.rows:
            refused = step.effects.refused.get(BGP_ROUTES.name, [])
            rows, at_ms = step.rows[BGP_ROUTES.name], step.cut.at_ms
            self._waiting.append((rows, refused, at_ms, step.config))
        if all(one.table.follows(cell.routes, cell.paths) for one in cell.regions.values()):
            for waiting in self._waiting:
                self.route_news += [(number, one) for one in self.routes.take(*waiting)]
            self.path_news += [(number, *one) for one in self._waiting_paths]
            self._waiting, self._waiting_paths = [], []

    def _take_telemetry(self, step: Step) -> None:
        cut = step.cut
        reports = _frame(step, APPLIANCE_HEALTH.name, "Health")
        if reports is not None:
            self.health.take(reports, "appliance", cut.at_ms)
        samples = _frame(step, TRAFFIC_LINKS.name, "LinkSample")
        if samples is not None:
            self.links.take(samples, "link", cut.at_ms)
        samples = _frame(step, TRAFFIC_PATHS.name, "PathSample")
        if samples is not None:
            samples = samples.filter(pl.Series(self._around.covered_by(samples["client"])))
            name = pl.concat_str("site", pl.col("client").bin.encode("hex"), separator="|")
            samples = samples.with_columns(name=name)
            self.paths.take(samples, "name", cut.at_ms)
            self._waiting_paths += samples.select("name", OFFSET).iter_rows()
        for row in step.effects.verdicts:
            report = self._report(row, reports) if row.kind == "appliance" else -1
            self.verdicts.append(Told(cut.partition, cut.number, cut.at_ms, row, report))

    def _report(self, row: VerdictRow, reports: pl.DataFrame | None) -> int:
        """The report that a verdict on an appliance rests on: the one that says FAILED where that
        is why, else its newest."""
        if row.reason == Reason.REPORTED_FAILED and reports is not None:
            service = pl.col("service").cast(pl.String) == Service.FAILED.name
            said = reports.filter((pl.col("appliance") == row.entity) & service)
            if said.height:
                return int(said.get_column(OFFSET)[-1])
        return self.health.offset_of(row.entity)

    def _take_effects(self, effects: Effects, number: int) -> None:
        for one in effects.tables:
            if isinstance(one, Block):
                matrix = one.keys[self._holding(one.keys)]
                keys = (row.tobytes() for row in matrix)
                self.published |= {(one.topic, key): number for key in keys}
            else:
                self.published[one.topic, one.key] = number

    def _holding(self, keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which keys of steering.prefixes are of prefixes around the address."""
        words = np.ascontiguousarray(keys[:, :16]).view(">u8").astype(np.uint64)
        return self._around.inside(words[:, 0], words[:, 1], keys[:, 16])


def _frame(step: Step, topic: str, record: str) -> pl.DataFrame | None:
    """The accepted rows of one record type of a cut, in order of offset."""
    rows = step.rows.get(topic)
    if rows is None or record not in rows.frames:
        return None
    return accepted(rows.frames[record], step.effects.refused.get(topic, []))
