"""Everything that is written but text logs: the cache, complete files and folders, manifests, locks."""

from sentemb.storage.atomic import (
    finish_folder,
    free_name,
    partial_path,
    recover,
    remove,
    replacing,
    write_bytes,
    write_folder,
    write_text,
)
from sentemb.storage.cache import FORMAT, build_once, cache_dir, digests, key_of, lock_of, shows_progress, writes_alone
from sentemb.storage.chunks import DONE, append_chunks, rows_done
from sentemb.storage.digest import digest
from sentemb.storage.manifest import LEFTOVER, MANIFEST, MEND, PARTIAL, unlisted, verify

__all__ = [
    "DONE",
    "FORMAT",
    "LEFTOVER",
    "MANIFEST",
    "MEND",
    "PARTIAL",
    "append_chunks",
    "cache_dir",
    "digest",
    "digests",
    "finish_folder",
    "free_name",
    "key_of",
    "lock_of",
    "build_once",
    "partial_path",
    "recover",
    "remove",
    "replacing",
    "rows_done",
    "shows_progress",
    "unlisted",
    "verify",
    "write_bytes",
    "write_text",
    "write_folder",
    "writes_alone",
]
