"""From ids, sequences of units or vectors to one embedding per token."""
