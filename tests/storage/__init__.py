"""Tests of the cache, atomic writes and manifests."""
