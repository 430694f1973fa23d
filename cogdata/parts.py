"""A part: a committed range of a collection's episodes. Encoding, the commit protocol, decoding."""
