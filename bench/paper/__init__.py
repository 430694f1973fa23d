"""Studies behind the results of the paper's reproduction; each is a command."""
