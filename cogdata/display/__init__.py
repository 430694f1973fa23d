"""Episodes as pictures for people: captions, contact sheets, animations."""
