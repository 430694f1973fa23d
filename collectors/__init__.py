"""Worlds and scripted policies that produce episodes."""
