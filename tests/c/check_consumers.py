"""Installs the library, builds the examples against the installed tree as others would, and compares what they print.

Runs in an empty folder: find_package with the shared and with the static library, and pkg-config for the C program with
either. The expected coordinates come from a known shift, and from the operator's definition written out below.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

C, H, W = 6, 12, 16
KEYPOINTS = [(3.0, 2.0), (14.9, 4.2), (0.0, 11.0), (7.5, 6.5)]  # (x, y)
Map = list[list[list[float]]]  # [c][y][x]


def run(*command: object, env: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, env={**os.environ, **(env or {})}
    )
    if finished.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{finished.stdout}{finished.stderr}")
    return finished.stdout


def npy(values: list[float], shape: tuple[int, ...], fortran: bool = False) -> bytes:
    """A version 1.0 file of float32 values, given in the order of memory."""
    header = f"{{'descr': '<f4', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(header))
        + header.encode()
        + struct.pack(f"<{len(values)}f", *values)
    )


def random_map(rng: random.Random) -> Map:
    """float32 values of one sign, so that many cells have similar scores and the window matters."""
    one = lambda: struct.unpack("f", struct.pack("f", rng.random() + 0.1))[0]  # noqa: E731
    return [[[one() for _ in range(W)] for _ in range(H)] for _ in range(C)]


def match(source: Map, target: Map, x: float, y: float, window: int, temperature: float) -> tuple[float, float, float]:
    """(x, y, score) in cells by the definition: floor sampling, cosine, a window that is shifted inside."""
    query = [plane[int(y)][int(x)] for plane in source]
    norm = lambda v: math.sqrt(sum(a * a for a in v)) + 1e-8  # noqa: E731
    scores = {}
    for cell in ((cx, cy) for cy in range(H) for cx in range(W)):
        feature = [plane[cell[1]][cell[0]] for plane in target]
        scores[cell] = sum(a * b for a, b in zip(query, feature, strict=True)) / (norm(query) * norm(feature))
    peak = max(scores, key=lambda cell: scores[cell])
    left, top = (min(max(p - window // 2, 0), side - window) for p, side in zip(peak, (W, H), strict=True))
    inside = [(cx, cy) for cy in range(top, top + window) for cx in range(left, left + window)]
    weights = [math.exp((scores[cell] - scores[peak]) / temperature) for cell in inside]
    total = sum(weights)
    mean = [sum(w * cell[i] for w, cell in zip(weights, inside, strict=True)) / total for i in range(2)]
    return mean[0], mean[1], scores[peak]


def printed(output: str) -> list[list[float]]:
    """The numbers after the arrow of each line."""
    return [[float(word) for word in line.split("->")[1].split()] for line in output.splitlines() if "->" in line]


def compare(what: str, output: str, expected: list[tuple[float, ...]], tolerance: float) -> None:
    found = printed(output)
    right = len(found) == len(expected) and all(
        len(f) == len(e) and all(abs(a - b) <= tolerance for a, b in zip(f, e, strict=True))
        for f, e in zip(found, expected, strict=True)
    )
    if not right:
        raise SystemExit(f"{what}: expected {expected}, got\n{output}")
    print(f"{what}: {len(found)} points as expected")


def check_cpp(what: str, program: Path, work: Path) -> None:
    rng = random.Random(0)
    source, target = random_map(rng), random_map(rng)
    in_c_order = [v for plane in source for row in plane for v in row]
    in_fortran_order = [target[c][y][x] for x in range(W) for y in range(H) for c in range(C)]
    (work / "source.npy").write_bytes(npy(in_c_order, (C, H, W)))
    (work / "target.npy").write_bytes(npy(in_fortran_order, (C, H, W), fortran=True))
    (work / "points.npy").write_bytes(npy([v for point in KEYPOINTS for v in point], (len(KEYPOINTS), 2)))
    (work / "points_f.npy").write_bytes(
        npy([p[0] for p in KEYPOINTS] + [p[1] for p in KEYPOINTS], (len(KEYPOINTS), 2), fortran=True)
    )
    files = [work / "source.npy", work / "target.npy"]
    expected = [match(source, target, x, y, 5, 0.05) for x, y in KEYPOINTS]
    for points in ("points.npy", "points_f.npy"):
        compare(f"{what}, {points}", run(program, *files, work / points, 5, 0.05), expected, 2e-4)

    # each cell is four pixels of the image wide: half_pixel, there and back
    in_pixels = [((x + 0.5) / 4 - 0.5, (y + 0.5) / 4 - 0.5) for x, y in KEYPOINTS]
    in_cells = [match(source, target, max(x, 0.0), max(y, 0.0), 5, 0.05) for x, y in in_pixels]
    expected = [((x + 0.5) * 4 - 0.5, (y + 0.5) * 4 - 0.5, score) for x, y, score in in_cells]
    compare(f"{what}, pixels", run(program, *files, work / "points.npy", 5, 0.05, 4 * H, 4 * W), expected, 8e-4)

    refused = subprocess.run([program, *files, work / "points.npy", "0"], capture_output=True, text=True)
    if refused.returncode != 1 or "window.height must be at least 1 cell, got 0" not in refused.stderr:
        raise SystemExit(f"{what}: a window of 0 cells was not refused: {refused}")


def random_sets(rng: random.Random) -> tuple[list[list[float]], list[list[float]]]:
    """Descriptors a and b; b_0 to b_5 are disturbed copies of a_8 to a_3."""
    single = lambda x: struct.unpack("f", struct.pack("f", x))[0]  # noqa: E731
    draw = lambda scale: [single(scale * rng.gauss(0, 1)) for _ in range(C)]  # noqa: E731
    a = [draw(1.0) for _ in range(9)]
    copies = [[single(x + y) for x, y in zip(v, draw(0.1), strict=True)] for v in a[8:2:-1]]
    return a, copies + [draw(1.0) for _ in range(5)]


def match_sets(a: list[list[float]], b: list[list[float]], ratio: float) -> list[tuple[float, ...]]:
    """(n, m, distance) of mutual nearest neighbours that pass the ratio test both ways, by the definition."""
    distances = [[math.dist(x, y) for y in b] for x in a]
    columns = [list(column) for column in zip(*distances, strict=True)]
    pairs = []
    for n, row in enumerate(distances):
        m = row.index(min(row))
        second, second_of_b = sorted(row)[1], sorted(columns[m])[1]
        if columns[m].index(min(columns[m])) == n and row[m] <= ratio * min(second, second_of_b):
            pairs.append((n, m, row[m]))
    return pairs


def check_sets(what: str, program: Path, work: Path) -> None:
    a, b = random_sets(random.Random(0))
    (work / "a.npy").write_bytes(npy([v for row in a for v in row], (len(a), C)))
    (work / "b.npy").write_bytes(npy([v for column in zip(*b, strict=True) for v in column], (len(b), C), fortran=True))
    all_pairs = match_sets(a, b, math.inf)
    clear = match_sets(a, b, 0.3)
    if not len(clear) < len(all_pairs) < len(a):
        raise SystemExit(f"{what}: the test needs pairs that fail each test, got {clear} of {all_pairs}")
    files = [work / "a.npy", work / "b.npy"]
    compare_pairs(f"{what}, mutual", run(program, *files), all_pairs)
    compare_pairs(f"{what}, ratio", run(program, *files, 0.3), clear)
    (work / "none.npy").write_bytes(npy([], (0, C)))
    if run(program, work / "none.npy", work / "b.npy"):
        raise SystemExit(f"{what}: an empty set has no pairs")
    wrong = subprocess.run([program, work / "a.npy", work / "points.npy"], capture_output=True, text=True)
    if wrong.returncode != 1 or "channels" not in wrong.stderr:
        raise SystemExit(f"{what}: sets of other numbers of channels were not refused: {wrong}")


def compare_pairs(what: str, output: str, expected: list[tuple[float, ...]]) -> None:
    lines = [line.replace("->", " ").split() for line in output.splitlines()]
    compare(what, "\n".join(f"-> {' '.join(line)}" for line in lines), expected, 1e-4)


def check_c(what: str, program: Path, env: dict[str, str] | None = None) -> None:
    for dx, dy in ((7, 3), (-2, 5)):
        expected = [(4.0 + dx, 5.0 + dy), (20.0 + dx, 11.0 + dy), (30.0 + dx, 30.0 + dy)]
        compare(f"{what}, shift {dx} {dy}", run(program, dx, dy, env=env), expected, 1e-3)


def check_pkg_config(examples: Path, prefix: Path, work: Path) -> None:
    if shutil.which("pkg-config") is None:
        print("no pkg-config here: its file is not checked")
        return
    library = next(prefix.glob("lib*/**/libsimplematch.so")).parent
    env = {"PKG_CONFIG_PATH": str(library / "pkgconfig")}
    compiler = os.environ.get("CC", "cc")
    source = examples / "c_consumer" / "find_shift.c"
    flags = run("pkg-config", "--cflags", "--libs", "simplematch", env=env).split()
    run(compiler, "-std=c99", source, *flags, "-o", work / "by_pkg_config")
    check_c("pkg-config, shared", work / "by_pkg_config", {"LD_LIBRARY_PATH": str(library)})
    flags = run("pkg-config", "--cflags", "--libs", "--static", "simplematch", env=env).split()
    flags = [str(library / "libsimplematch.a") if flag == "-lsimplematch" else flag for flag in flags]
    run(compiler, "-std=c99", source, *flags, "-o", work / "by_pkg_config_static")
    check_c("pkg-config, static", work / "by_pkg_config_static")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--cmake", "--generator", "--make-program"):
        parser.add_argument(name, required=True)
    for name in ("--build", "--examples", "--work"):
        parser.add_argument(name, required=True, type=Path)
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)

    run(options.cmake, "--install", options.build, "--prefix", options.work / "installed")
    prefix = options.work / "prefix"  # moved: nothing in the tree may know where it was
    (options.work / "installed").rename(prefix)
    generator = ("-G", options.generator, f"-DCMAKE_MAKE_PROGRAM={options.make_program}")
    for name, program in (("cpp_consumer", "match_maps"), ("c_consumer", "find_shift")):
        for kind, static in (("shared", "OFF"), ("static", "ON")):
            build = options.work / f"{name}-{kind}"
            where = ("-S", options.examples / name, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
            run(options.cmake, *where, *generator, f"-DSTATIC={static}")
            run(options.cmake, "--build", build)
            if name == "cpp_consumer":
                check_cpp(f"C++, {kind}", build / program, options.work)
                check_sets(f"C++ sets, {kind}", build / "match_sets", options.work)
            else:
                check_c(f"C, {kind}", build / program)
    check_pkg_config(options.examples, prefix, options.work)


if __name__ == "__main__":
    main()
