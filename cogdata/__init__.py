"""What an episode is; how it is stored, frozen into a manifest and streamed."""

__version__ = "0.1.0"
