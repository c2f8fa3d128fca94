"""``make bench``: prints the figures as a table, in Markdown."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import FIGURES, Bench
from bench.table import lines, machine


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description="Compare with pymdfu, side by side.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and devices, for a first look")
    options = parser.parse_args()
    unknown = set(options.figures) - FIGURES.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    began = time.monotonic()
    where = machine()
    rows = []
    with tempfile.TemporaryDirectory(prefix="firmwarden-bench-") as place:
        bench = Bench(place=Path(place), random=random.Random(0x4D444655), quick=options.quick)
        for name in options.figures or FIGURES:
            for row in FIGURES[name](bench):
                print(f"  {row.figure}: {row.ours}  {row.theirs}  {row.verdict}", file=sys.stderr, flush=True)
                rows.append(row)
    print(where)
    print()
    print("\n".join(lines(rows)))
    print()
    print(f"It took {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
