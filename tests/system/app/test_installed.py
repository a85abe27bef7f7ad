"""Without the packages of the app its other tests are not even collected; this one says why."""

from __future__ import annotations

import pytest

from .conftest import MISSING


def test_the_packages_of_the_app_are_installed() -> None:
    if MISSING:
        pytest.skip(f"the tests of the app need {', '.join(MISSING)}: pip install '.[app,test]'")
    from simplematch.app.server import make_app

    assert callable(make_app)
