"""The reproduction of the paper's Table 1, apart from the general tool: plan, results, statistics, page."""
