"""Experiments for the results pages of the paper's reproduction; each is a command."""
