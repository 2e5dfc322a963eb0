"""The commands, one a file; what they share is in options and terminal."""
