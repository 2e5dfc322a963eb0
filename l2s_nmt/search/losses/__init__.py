"""Cost-sensitive losses: how the costs of the actions at a state become a gradient for the policy."""
