"""The pictures of each open page, and their feature maps, in bounded memory."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from .pictures import StoredPicture

MOST_SESSIONS = 64
MOST_BYTES = 1 << 30
_MOST_PICTURES = 4  # of a session: the two of the page, and the two before for pages that go back
_MOST_MAPS = 6  # two pictures under three models


class GoneError(LookupError):
    """A session or a picture is unknown: it was dropped, or made before the server was started again."""


class Session:
    """The pictures of one page and their feature maps; the least recently used of each are dropped."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[str, StoredPicture] = OrderedDict()
        self._maps: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._lock = threading.RLock()

    def add(self, picture: StoredPicture) -> str:
        """Keep a picture and return its random name."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._pictures[name] = picture
            while len(self._pictures) > _MOST_PICTURES:
                dropped, _ = self._pictures.popitem(last=False)
                for key in [key for key in self._maps if key[0] == dropped]:
                    del self._maps[key]
        return name

    def picture(self, name: str) -> StoredPicture:
        """Return a picture.

        Raises:
            GoneError: there is none of that name.
        """
        with self._lock:
            if name not in self._pictures:
                raise GoneError("the server no longer has this picture; send it again.")
            self._pictures.move_to_end(name)
            return self._pictures[name]

    def kept_features(self, name: str, model: str) -> Tensor | None:
        """Return the feature map of a picture under a model, if it is there.

        Raises:
            GoneError: there is no picture of that name.
        """
        key = (name, model)
        with self._lock:
            self.picture(name)
            if key in self._maps:
                self._maps.move_to_end(key)
            return self._maps.get(key)

    def features(self, name: str, model: str, encode: Callable[[StoredPicture], Tensor]) -> Tensor:
        """Return the feature map of a picture under a model, encoded at the first call.

        Two calls at the same time may encode twice, which the server's queue of encodings prevents.
        """
        kept = self.kept_features(name, model)
        if kept is not None:
            return kept
        encoded = encode(self.picture(name))
        with self._lock:
            if name in self._pictures:  # else dropped meanwhile
                self._maps[(name, model)] = encoded
                while len(self._maps) > _MOST_MAPS:
                    self._maps.popitem(last=False)
        return encoded

    @property
    def bytes(self) -> int:
        """The memory that pictures and maps take."""
        with self._lock:
            maps = sum(x.numel() * x.element_size() for x in self._maps.values())
            return maps + sum(picture.bytes for picture in self._pictures.values())


class Sessions:
    """Sessions by random names. The least recently used are dropped beyond a number of them or of bytes."""

    def __init__(self, most: int = MOST_SESSIONS, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def new(self) -> str:
        """Make an empty session and return its name, which is also the permission to use it."""
        name = secrets.token_urlsafe(24)
        with self._lock:
            self._sessions[name] = Session()
        self.trim()
        return name

    def get(self, name: str) -> Session:
        """Return a session, which becomes the most recently used.

        Raises:
            GoneError: there is none of that name.
        """
        with self._lock:
            if name not in self._sessions:
                raise GoneError("the server no longer has this page's pictures; send them again.")
            self._sessions.move_to_end(name)
            return self._sessions[name]

    def trim(self) -> None:
        """Drop the least recently used sessions until the rest fit; the most recently used one always stays."""
        with self._lock:
            sizes = {name: session.bytes for name, session in self._sessions.items()}
            total = sum(sizes.values())
            while len(self._sessions) > 1 and (len(self._sessions) > self._most or total > self._most_bytes):
                name, _ = self._sessions.popitem(last=False)
                total -= sizes[name]
