"""Tests of the adaptation."""
