"""Episodes as images for people: captions, contact sheets, animations."""
