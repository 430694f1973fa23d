"""The commands of `cog`, a module each; `cli.py` puts them together. They compose the packages and print."""
