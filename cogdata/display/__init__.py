"""Episodes as images to look at: captions, contact sheets, animations."""
