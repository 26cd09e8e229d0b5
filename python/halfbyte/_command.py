"""The console script ``halfbyte``: the same command as the Rust program, in the same library."""

from __future__ import annotations

import sys

from halfbyte import _native


def main() -> None:
    """Runs the command line and exits with its status."""
    sys.exit(_native.command(["halfbyte", *sys.argv[1:]]))
