"""Files of the project: written whole or not at all, read within bounds, and named so that every system takes them."""

from .names import check_name, is_hidden, natural, slug
from .reading import (
    array_names,
    checked_json,
    copied,
    is_plain,
    open_tensors,
    read_arrays,
    read_metadata,
    read_pickled,
    read_tensors,
    shards,
)
from .writing import atomic_write, check_writable, remove_leftovers, write_json, write_tensors

__all__ = [
    "array_names",
    "atomic_write",
    "check_name",
    "check_writable",
    "checked_json",
    "copied",
    "is_hidden",
    "is_plain",
    "natural",
    "open_tensors",
    "read_arrays",
    "read_metadata",
    "read_pickled",
    "read_tensors",
    "remove_leftovers",
    "shards",
    "slug",
    "write_json",
    "write_tensors",
]
