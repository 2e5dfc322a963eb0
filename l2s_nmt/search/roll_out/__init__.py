"""Roll-out: the policy that finishes the sentence after each candidate, and so says what the candidate costs."""
