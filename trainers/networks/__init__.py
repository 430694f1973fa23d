"""Networks and their parts: encoders of images, policy heads, critics, Bellman targets."""
