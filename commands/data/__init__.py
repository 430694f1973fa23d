"""Commands on stored episodes: `cog data`, and `cog derive`."""
