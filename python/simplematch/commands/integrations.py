"""`simplematch verify-drop-in` and `simplematch integrations`."""

from __future__ import annotations

import sys
from pathlib import Path

from .._files import DataError, check_output, write_text
from .._json import read_object, write_json
from ..drop_in.report import as_html, as_page, as_text
from ..drop_in.verify import agrees, verify


def verify_drop_in(
    name: str,
    clone: Path,
    output: Path | None = None,
    html: Path | None = None,
    rounds: int = 9,
    seed: int = 0,
) -> None:
    """Compare the functions of another codebase's clone with ours: differences, gradients, time and memory.

    The exit status is 1 if they differ by more than rounding.

    Args:
        name: the codebase, as in simplematch_kernels.integrations.patch: cats, chm, sd4match, kornia and others.
        clone: the folder of its clone; for an installed package, the folder that holds the package.
        output: a JSON file to write.
        html: an HTML file to write.
        rounds: timed calls of both, in alternation.
        seed: of the inputs.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be a whole number above zero, got {rounds}")
    for file in (output, html):
        if file is not None:
            check_output(file)
    result = verify(name, clone, rounds, seed)
    print(as_text(result))
    if output is not None:
        write_json(output, result, indent=1)
    if html is not None:
        write_text(html, as_html(result))
    if not all(map(agrees, result["cases"])):
        sys.stdout.flush()
        sys.exit(1)


def integrations(results: Path = Path("docs/integrations"), output: Path = Path("docs/integrations.md")) -> None:
    """Write the page about other codebases from the results of `simplematch verify-drop-in`.

    Args:
        results: folder of the JSON files.
        output: the page.
    """
    files = sorted(results.glob("*.json"))
    if not files:
        raise DataError(f"{results} has no results; run simplematch verify-drop-in NAME CLONE --output FILE.json.")
    write_text(output, as_page([read_object(file) for file in files]))
