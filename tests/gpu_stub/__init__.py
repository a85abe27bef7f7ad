"""A stub of a GPU; `plugin.py` says what it is."""
