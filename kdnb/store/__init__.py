"""The run store: finished work, each piece one file, addressed by what determines it."""

from kdnb.store.entries import DamagedEntryError, Entry, OtherFormatError, StoreError
from kdnb.store.store import Store, digest, tensors_digest, weights_digest

__all__ = [
    "DamagedEntryError",
    "Entry",
    "OtherFormatError",
    "Store",
    "StoreError",
    "digest",
    "tensors_digest",
    "weights_digest",
]
