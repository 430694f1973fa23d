"""Training runs: what is asked for, where it starts, the loop, its log, the methods made of several runs."""
