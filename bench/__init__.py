"""Commands that print figures; each names its machine's cores and quotes medians."""
