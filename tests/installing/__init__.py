"""Tests of installing: what is needed where, names, the wheel."""
