"""Exports the functions by name."""

from .matching import match_mnn, match_nn, match_smnn, match_snn

__all__ = ["match_mnn", "match_nn", "match_smnn", "match_snn"]
