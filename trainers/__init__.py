"""Algorithms that consume streams of transitions, and their evaluation."""
