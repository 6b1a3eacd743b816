"""Whole bits per second by share: parts that are integers and add up to what was parted.

Rule: every part is rounded down, and the bits that are left go one each to the largest remainders,
ties to the row that comes first (Hamilton). Exact for any total below 2**63: a total is taken apart
by `of` first, so that no product overflows."""

import polars as pl


def portions(
    frame: pl.DataFrame, keys: list[str], total: str, weight: str, of: int | str
) -> pl.Series:
    """Row by row total * weight / of, so that the rows of one key together are the floor of their
    sum. `total` and `of` are the same in all rows of a key; weights are at most 10**8, as is
    `of` (a number or a column)."""
    whole = pl.lit(of) if isinstance(of, int) else pl.col(of)
    rest = pl.col(total) % whole
    parts = frame.select(
        *keys,
        part=pl.col(total) // whole * pl.col(weight) + rest * pl.col(weight) // whole,
        over=rest * pl.col(weight) % whole,
        of=whole,
    )
    left = pl.col("over").sum().over(keys) // pl.col("of")
    rank = pl.col("over").rank("ordinal", descending=True).over(keys)
    return parts.select(part=pl.col("part") + (rank <= left)).get_column("part")


def part_of(total: str, part: str, of: int) -> pl.Expr:
    """total * part / of of each row by itself, rounded down, without overflow."""
    whole, rest = pl.col(total) // of, pl.col(total) % of
    return whole * pl.col(part) + rest * pl.col(part) // of
