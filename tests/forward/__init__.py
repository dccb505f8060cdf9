"""Tests of the training forward."""
