"""Which tests a machine with a GPU runs in its minutes."""

from __future__ import annotations

from typing import Any

from .conftest import few_of_each, share_of


class Case:
    """What is asked of a test of pytest."""

    def __init__(self, nodeid: str, params: dict[str, str]) -> None:
        self.nodeid, self.params, self.callspec = nodeid, params, self


def items(name: str, backend: str | None, count: int) -> list[Any]:
    params = {"backend": backend} if backend else {}
    return [Case(f"{name}[{backend}-{i}]", params) for i in range(count)]


def test_few_of_each_takes_every_test_and_backend() -> None:
    listed = [*items("a.py::f", "triton", 9), *items("a.py::f", "cuda", 9), *items("a.py::g", None, 2)]
    assert [item.nodeid for item in few_of_each(listed, 3)] == [
        *(f"a.py::f[triton-{i}]" for i in (0, 4, 8)),
        *(f"a.py::f[cuda-{i}]" for i in (0, 4, 8)),
        *(f"a.py::g[None-{i}]" for i in (0, 1)),
    ]


def test_shares_are_the_whole() -> None:
    listed = items("a.py::f", "triton", 10)
    shares = [share_of(listed, part, 3) for part in (1, 2, 3)]
    assert sorted(len(share) for share in shares) == [3, 3, 4]
    assert sorted((item for share in shares for item in share), key=listed.index) == listed
