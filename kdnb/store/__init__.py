"""The run store: finished work, each piece one file, addressed by what determines it."""

from kdnb.store.store import Store, StoreError, weights_digest

__all__ = ["Store", "StoreError", "weights_digest"]
