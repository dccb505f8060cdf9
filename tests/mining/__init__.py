"""Tests of mined hard negatives."""
