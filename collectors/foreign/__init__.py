"""Environments of others: finding their classes, and making them look like ours."""
