"""Mixtures: the shape of a query's rows, what they freeze, parts of a mixture."""
