"""`simplematch app`."""

from __future__ import annotations

from importlib.util import find_spec

from .lists import names

NEEDED = ("starlette", "uvicorn")
"""The packages of the extra `app` that the command can't do without; examples need scikit-image too."""


def app(host: str = "127.0.0.1", port: int = 8000, model: str | None = None, device: str | None = None) -> None:
    """Serve a page that matches keypoints of two pictures in the browser.

    Args:
        host: address to listen on. Others than 127.0.0.1 let other machines use the page, which asks for no password.
        port: 0 is any that is free.
        model: comma-separated models for the picker: presets, folders, or repositories owner/name of the Hugging Face
            hub; the first is chosen at the start. Presets whose weights are here are offered in any case.
        device: default: cuda if available.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(f"simplematch app needs {' and '.join(missing)}: pip install 'simplematch-kernels[train,app]'")
    from ..app.models import Models
    from ..app.security import is_loopback
    from ..app.serve import address_of, open_port, run
    from ..app.server import make_app

    models = Models(names(model or ""), device)
    with open_port(host, port) as bound:
        models.get(models.default)  # an error of the model comes before the page
        print(f"simplematch app: {address_of(bound, host)} (Ctrl-C ends it)", flush=True)
        if not is_loopback(host):
            print("other machines can use the page too; it asks for no password", flush=True)
        run(make_app(models, host), bound)
