"""The shared library exports what its headers declare, under the library's symbol version, and nothing else.

python check_symbols.py libsimplematch.so include/simplematch
python check_symbols.py objects similarity.cu.o ...           nothing in these can be exported
python check_symbols.py module _C.cpython-311.so              the Python module exports its entry alone
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


def declared(headers: str) -> tuple[set[str], str]:
    """The functions of the headers in a folder, and the version of symbols."""
    text = "".join(path.read_text() for path in sorted(Path(headers).glob("*.h")))
    major, minor = (re.search(rf"#define SIMPLEMATCH_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR"))
    return set(re.findall(r"SIMPLEMATCH_API [\w *]*?(simplematch_\w+)\(", text)), f"SIMPLEMATCH_{major}.{minor}"


def exportable(objects: list[str]) -> list[str]:
    """Names of the project that compiled files define and whoever links them would export."""
    listing = subprocess.run(["readelf", "-sW", *objects], check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in listing.splitlines())
    symbols = (row[3:8] for row in rows if len(row) >= 8 and row[0].rstrip(":").isdigit())
    names = {
        name
        for _, binding, visibility, section, name in symbols
        if binding in ("GLOBAL", "WEAK") and visibility == "DEFAULT" and section != "UND"
    }
    demangled = subprocess.run(["c++filt", *sorted(names)], check=True, capture_output=True, text=True).stdout
    return [name for name in demangled.splitlines() if "simplematch" in name] if names else []


def check_objects(objects: list[str]) -> list[str]:
    if not objects:
        return ["no object files are given"]
    return [f"{name} is visible: whoever links it exports it" for name in exportable(objects)]


def check_module(module: str) -> list[str]:
    """Templates of the C++ library stay visible by its own declaration; they are no names of this project."""
    own = [name for name in exported(module) if not re.match(r"_Z(N[KV]*|T[IS].*|)St|_ZT[IS]P?F", name)]
    return [] if own == ["PyInit__C"] else [f"the module must export PyInit__C alone, got {', '.join(sorted(own))}"]


def check_library(library: str, headers: str) -> list[str]:
    symbols, (functions, version) = exported(library), declared(headers)
    problems = [f"{name} is exported, no header declares it" for name in sorted(symbols.keys() - functions)]
    problems += [f"{name} is declared and not exported" for name in sorted(functions - symbols.keys())]
    problems += [f"{n} has version {v!r}, not {version}" for n, v in sorted(symbols.items()) if v != version]
    if not functions:
        problems.append("the headers declare no function")
    return problems


def main(what: str, *files: str) -> int:
    if what == "objects":
        problems = check_objects(list(files))
    elif what == "module":
        problems = check_module(*files)
    else:
        problems = check_library(what, *files)
    print("\n".join(problems) or f"{what}: only what is meant to be exported is")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
