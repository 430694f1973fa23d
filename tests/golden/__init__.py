"""Stores of released formats, and what they hold: see ``make.py``."""
