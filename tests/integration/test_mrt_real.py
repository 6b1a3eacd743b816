"""The MRT reader on real files, held against what well-known tools count in them.

The files lie beside the checkout and are not part of it (their terms forbid it to be assumed that
they may be); a test whose file is not there is skipped.
"""

from collections import Counter
from pathlib import Path

import mrtparse
import pytest

from pipeline.feeds.compressed import Source
from tests.mrt_files import Read

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "mrt"
UPDATES, RIB = "ris-updates.20160811.1600.gz", "ris-bview.20020722.2337.gz"


def real(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def oracle(path: Path, records: int) -> Counter[tuple[str, str, str]]:
    """(announced or withdrawn, peer, prefix) of the first records, as mrtparse reads them."""
    found: Counter[tuple[str, str, str]] = Counter()

    def note(what: str, peer: str, prefixes: list[dict[str, str]]) -> None:
        found.update((what, peer, f"{each['prefix']}/{each['length']}") for each in prefixes)

    for number, entry in enumerate(mrtparse.Reader(str(path))):
        if number == records:
            break
        message = entry.data.get("bgp_message", {})
        peer = entry.data.get("peer_ip", "")
        note("WITHDRAW", peer, message.get("withdrawn_routes", []))
        note("ANNOUNCE", peer, message.get("nlri", []))
        for attribute in message.get("path_attributes", []):
            (kind,) = attribute["type"]
            if kind == 14:
                note("ANNOUNCE", peer, attribute["value"]["nlri"])
            elif kind == 15:
                note("WITHDRAW", peer, attribute["value"]["withdrawn_routes"])
    return found


def test_updates_hold_the_elements_that_bgpdump_counts() -> None:
    found = Read(Source(real(UPDATES)))
    account = found.account
    assert (account.records, account.read, account.damaged) == (17_406, 41_212, 0)
    assert (account.announced, account.withdrawn, account.refused.total()) == (39_256, 1_956, 0)
    assert account.noted == {"PeerDown": 22}
    assert found.ending.whole


def test_updates_are_the_elements_that_mrtparse_reads() -> None:
    path = real(UPDATES)
    records = 3000
    found = Read(Source(path))
    # rows in the file's order: cut both after the same number of elements
    theirs = oracle(path, records)
    ours = Counter(
        (fields["action"], fields["peer"], key.split("|")[2])
        for key, _, fields in [row for row in found.rows if row[1] == "Route"][: theirs.total()]
    )
    assert ours == theirs


def test_an_old_rib_dump_is_read_whole() -> None:
    account = Read(Source(real(RIB))).account
    assert (account.records, account.read, account.announced) == (115_521, 115_521, 115_521)
    assert account.damaged == 0
