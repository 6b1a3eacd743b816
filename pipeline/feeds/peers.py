"""Which site a BGP peer belongs to: the `--peer` rules of a feed.

Rule: the exact address first, then the AS number, then `*`. One peer belongs to one site, so two
rules for the same peer that name different sites are a mistake, not an order of precedence.
"""

from collections.abc import Iterable
from ipaddress import ip_address

from pipeline.errors import UsageError
from pipeline.feeds.reports import check_id

EVERY = "*"
_ASN_MAX = (1 << 32) - 1


class PeerRules:
    """Built from texts `ADDRESS=SITE`, `ASN=SITE` (65001 or AS65001) and `*=SITE`. UsageError names
    the rule that is none."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._addresses: dict[str, str] = {}
        self._asns: dict[int, str] = {}
        self._rest = ""
        for text in texts:
            self._add(text)

    def _add(self, text: str) -> None:
        peer, equals, site = (part.strip() for part in text.partition("="))
        if not equals or not peer:
            raise UsageError(f"--peer {text!r}: write it as ADDRESS=SITE, ASN=SITE or '*=SITE'")
        try:
            check_id(site)
        except ValueError as error:
            raise UsageError(f"--peer {text!r}: the site is {site!r}, and {error}") from None
        if peer == EVERY:
            known, self._rest = self._rest, site
        elif (asn := _asn(peer)) is not None:
            known = self._asns.setdefault(asn, site)
        else:
            try:
                address = str(ip_address(peer))
            except ValueError:
                raise UsageError(
                    f"--peer {text!r}: {peer!r} is neither an address nor an AS number nor '*'"
                ) from None
            known = self._addresses.setdefault(address, site)
        if known and known != site:
            raise UsageError(f"--peer {peer} is given to two sites: {known} and {site}")

    @property
    def sites(self) -> list[str]:
        """Every site that a rule names, sorted."""
        return sorted({*self._addresses.values(), *self._asns.values(), self._rest} - {""})

    def site_of(self, address: str, asn: int) -> str:
        """The site of a peer, empty when no rule names it."""
        return self._addresses.get(address) or self._asns.get(asn) or self._rest


def _asn(text: str) -> int | None:
    digits = text[2:] if text[:2].upper() == "AS" else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    if int(digits) > _ASN_MAX:
        raise UsageError(f"--peer {text}: an AS number has 32 bits")
    return int(digits)
