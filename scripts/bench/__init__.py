"""What the scripts that measure and profile a training step share."""
