"""Costs: the loss of a finished sentence."""
