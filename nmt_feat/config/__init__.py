"""Settings: their schema and rules, the identity of a run, and objects from names of classes."""
