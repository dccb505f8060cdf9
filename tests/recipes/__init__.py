"""Tests of the recipes and studies."""
