"""The DuckDB index over the store: queries, mixtures, recipes."""
