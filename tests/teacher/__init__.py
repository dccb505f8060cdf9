"""Tests of sentemb.teacher."""
