"""The shared library exports what its header declares, under the library's symbol version, and nothing else.

python check_symbols.py libsimplematch.so simplematch.h
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def exported(library: str) -> dict[str, str]:
    """Name to version of every symbol that a program could link."""
    listing = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    symbols = (line.split() for line in listing.splitlines())
    named = (name for _, kind, name in symbols if kind != "A")  # A: the version's own name
    return {name: version for name, _, version in (n.partition("@@") for n in named)}


def declared(header: str) -> tuple[set[str], str]:
    text = Path(header).read_text()
    major, minor = (re.search(rf"#define SIMPLEMATCH_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR"))
    return set(re.findall(r"SIMPLEMATCH_API [\w *]*?(simplematch_\w+)\(", text)), f"SIMPLEMATCH_{major}.{minor}"


def main(library: str, header: str) -> int:
    symbols, (functions, version) = exported(library), declared(header)
    problems = [f"{name} is exported, the header doesn't declare it" for name in sorted(symbols.keys() - functions)]
    problems += [f"{name} is declared and not exported" for name in sorted(functions - symbols.keys())]
    problems += [f"{n} has version {v!r}, not {version}" for n, v in sorted(symbols.items()) if v != version]
    if not functions:
        problems.append("the header declares no function")
    print("\n".join(problems) or f"{len(symbols)} symbols, all of {version}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
