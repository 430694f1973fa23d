"""The store and every kind of file in it: shards and parts, mixtures, runs."""
