"""Reference policies: which tokens are best after a prefix, and what the loss will be."""
