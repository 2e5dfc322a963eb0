"""Learning to search: roll-in, decisions, roll-out, costs, losses."""
