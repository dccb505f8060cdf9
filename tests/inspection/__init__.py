"""Tests of the inspection of corpora."""
