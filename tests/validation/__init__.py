"""Tests of sentemb.validation."""
