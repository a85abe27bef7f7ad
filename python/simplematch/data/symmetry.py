"""Which keypoints of a category are interchangeable, such as the left and the right ear; read from a JSON file.

{"face": [["0", "4"], ["16", "19"]], "*": [["5", "8"], ["6", "9", "12", "15"]]}

Each category has a list of groups of keypoint names; "*" stands for every category without a list of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from .._files import DataError
from .._json import parse_json, read_object
from .dataset import PairDataset

FILE = "symmetry.json"  # in a data set's folder
OTHERS = "*"
Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Symmetry:
    """Groups of interchangeable keypoints.

    Attributes:
        name: the file, or the name of a file that comes with the package.
        groups: the groups of each category; those of "*" belong to every other category.
        shipped: whether the file comes with the package; a data set may then lack some of its categories.
    """

    name: str
    groups: Mapping[str, Groups]
    shipped: bool = False

    @classmethod
    def load(cls, source: Path | str) -> Symmetry:
        """Read a file, or one that comes with the package: "landmarks-spair", "spair-71k" or "ap-10k".

        Raises:
            DataError: the file is missing, or has another format.
        """
        if str(source) in shipped_names():
            text = (_folder() / f"{source}.json").read_text()
            return cls(str(source), _groups(parse_json(text, str(source)), str(source)), shipped=True)
        if not Path(source).is_file():
            raise DataError(f"symmetry must be a file or one of {', '.join(shipped_names())}, got '{source}'.")
        return cls(str(source), _groups(read_object(source), str(source)))

    def partners(self, category: str) -> dict[str, tuple[str, ...]]:
        """Return, for each keypoint of a group of a category, the others of its group."""
        groups = self.groups.get(category, self.groups.get(OTHERS, ()))
        return {name: tuple(x for x in group if x != name) for group in groups for name in group}

    def check(self, dataset: PairDataset) -> None:
        """Check that a data set has the categories and keypoints.

        Raises:
            DataError: a category or a keypoint is unknown, or the keypoints of the data set have no names.
        """
        known = dataset.categories
        unknown = [name for name in self.groups if name not in (*known, OTHERS)]
        if unknown and (not self.shipped or len(unknown) == len(self.groups)):
            raise DataError(
                f"symmetry {self.name} must name categories of {dataset.root} ({_few(known)}), got '{unknown[0]}'."
            )
        for category in known:
            partners = self.partners(category)
            names = dataset.keypoint_names(category) if partners else set()
            if partners and not names:
                raise DataError(f"symmetry needs keypoints with names, which {dataset.root} doesn't have.")
            for name in partners:
                if name not in names:
                    have = _few(sorted(names, key=lambda x: (len(x), x)))
                    raise DataError(
                        f"symmetry {self.name}: category '{category}' must group its keypoints ({have}), got '{name}'."
                    )


def symmetry_of(dataset: PairDataset, source: Path | str | None = None) -> Symmetry | None:
    """Return the checked symmetry of `source`, or of `symmetry.json` in the data set's folder; None without either."""
    if source is None and not (dataset.root / FILE).is_file():
        return None
    found = Symmetry.load(dataset.root / FILE if source is None else source)
    found.check(dataset)
    return found


def shipped_names() -> list[str]:
    """List the names of the files that come with the package."""
    return sorted(path.name.removesuffix(".json") for path in _folder().iterdir() if path.name.endswith(".json"))


def _folder() -> Any:
    return files(__package__) / "symmetries"


def _groups(content: Any, where: str) -> dict[str, Groups]:
    if not isinstance(content, dict) or not content:
        raise DataError(f"{where} must have a list of groups of keypoints for each category, got none.")
    return {category: _groups_of(category, groups, where) for category, groups in content.items()}


def _groups_of(category: str, groups: Any, where: str) -> Groups:
    found: list[tuple[str, ...]] = []
    for group in groups if isinstance(groups, list) else [groups]:
        names = group if isinstance(group, list) else []
        if len(names) < 2 or not all(isinstance(x, str | int) and not isinstance(x, bool) for x in names):
            raise DataError(
                f"{where}: category '{category}' must be a list of groups of at least two keypoints, got {group!r:.60}."
            )
        found.append(tuple(map(str, names)))
    names = [name for group in found for name in group]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where}: keypoint '{twice}' of category '{category}' must be in one group, once.")
    return tuple(found)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
