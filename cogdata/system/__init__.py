"""The machine and its processes: memory and cores, interrupts, subprocesses, clusters."""
