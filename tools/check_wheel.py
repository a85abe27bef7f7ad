"""Checks a wheel without installing it: its size, linked libraries and supported systems.

    python tools/check_wheel.py dist/simplematch_kernels-*.whl

It needs auditwheel, which installs pyelftools.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

NEWEST_GLIBC = (2, 34)
"""The newest glibc that the wheel may require: manylinux_2_34 or older."""

SYSTEM = re.compile(r"(libc|libm|libstdc\+\+|libgcc_s|libpthread|libdl|librt|ld-linux-[a-z0-9-]+)\.so\.\d+")
"""Libraries of every manylinux system. torch and the CUDA runtime are not allowed, because their versions vary."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    wheel: Path = parser.parse_args().wheel
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        libraries = {n: ELFFile(io.BytesIO(archive.read(n))) for n in names if re.search(r"\.so(\.\d+)*$", n)}
    faults = [
        *check_size(wheel, libraries),
        *check_content(names),
        *(fault for name, elf in libraries.items() for fault in check_library(name, elf, libraries)),
        *check_tag(wheel),
    ]
    for fault in faults:
        print(f"wrong: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


def check_size(wheel: Path, libraries: dict[str, Any]) -> list[str]:
    cuda = any(elf.get_section_by_name(".nv_fatbin") for elf in libraries.values())
    size, most = wheel.stat().st_size / 1e6, 20 if cuda else 3
    print(f"{wheel.name}: {size:.2f} MB, {'with' if cuda else 'without'} CUDA code")
    return [f"{size:.2f} MB, at most {most} allowed"] if size >= most else []


def check_content(names: list[str]) -> list[str]:
    wanted = {"the compiled module": r"simplematch_kernels/_C\..*\.so", "types": r"simplematch_kernels/py\.typed"}
    faults = [f"no {what}" for what, pattern in wanted.items() if not any(re.fullmatch(pattern, n) for n in names)]
    stray = {n.split("/")[0] for n in names} - {"simplematch_kernels", "simplematch"}
    return faults + [f"{n}/ belongs to no package" for n in sorted(stray) if not n.endswith(".dist-info")]


def check_library(name: str, elf: Any, libraries: dict[str, Any]) -> list[str]:
    own = {Path(each).name for each in libraries}
    needed = [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
    faults = [f"{name} links {n}" for n in needed if n not in own and not SYSTEM.fullmatch(n)]
    if elf.get_section_by_name(".symtab"):
        faults.append(f"{name} is not stripped")
    glibc = newest_glibc(elf)
    print(f"{name}: needs glibc {glibc[0]}.{glibc[1]}, links {', '.join(needed)}")
    if glibc > NEWEST_GLIBC:
        faults.append(f"{name} needs glibc {glibc[0]}.{glibc[1]}, at most 2.{NEWEST_GLIBC[1]} allowed")
    return faults


def newest_glibc(elf: Any) -> tuple[int, int]:
    versions = [
        tuple(map(int, version.name.removeprefix("GLIBC_").split(".")[:2]))
        for _, auxiliaries in elf.get_section_by_name(".gnu.version_r").iter_versions()
        for version in auxiliaries
        if version.name.startswith("GLIBC_2")
    ]
    newest = max(versions)
    return newest[0], newest[1]


def check_tag(wheel: Path) -> list[str]:
    """Check that the manylinux tag in the name is valid according to auditwheel, and not too new."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    shown = " ".join(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    policy = re.search(r'platform tag: "(\w+)"', shown)
    tags = re.findall(r"manylinux_(\d+)_(\d+)_\w+?(?=\.|$)", wheel.stem)
    print(f"auditwheel: {policy.group(1) if policy else shown}")
    if policy is None or not tags or policy.group(1) not in wheel.stem:
        return [f"the name has no manylinux tag that auditwheel accepts: {shown}"]
    oldest = min((int(major), int(minor)) for major, minor in tags)
    return [f"manylinux_{oldest[0]}_{oldest[1]} is too new"] if oldest > NEWEST_GLIBC else []


if __name__ == "__main__":
    main()
