"""Deriving layers: running a function over episodes that exist, and keeping what it gives beside them."""

from cogdata.derive.functions import derives

__all__ = ["derives"]
