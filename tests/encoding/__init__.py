"""Tests of sentemb.encoding."""
