"""Tests of exported encoders."""
