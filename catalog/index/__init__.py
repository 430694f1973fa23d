"""The DuckDB file over the store: schema, how it is opened, how files are read into it."""
