"""Everything that is written but text logs: the cache, complete files and folders, manifests, locks."""

from sentemb.storage.atomic import (
    free_name,
    partial_path,
    recover,
    remove,
    replacing,
    write_bytes,
    write_text,
    write_whole,
)
from sentemb.storage.cache import FORMAT, cache_dir, digests, key_of, lock_of, making, speaks
from sentemb.storage.digest import digest
from sentemb.storage.manifest import LEFT, MANIFEST, MEND, PARTIAL, unlisted, verify

__all__ = [
    "FORMAT",
    "LEFT",
    "MANIFEST",
    "MEND",
    "PARTIAL",
    "cache_dir",
    "digest",
    "digests",
    "free_name",
    "key_of",
    "lock_of",
    "making",
    "partial_path",
    "recover",
    "remove",
    "replacing",
    "speaks",
    "unlisted",
    "verify",
    "write_bytes",
    "write_text",
    "write_whole",
]
