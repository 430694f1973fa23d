"""Networks and what they are made of: encoders of images, heads, critics, losses' targets."""
