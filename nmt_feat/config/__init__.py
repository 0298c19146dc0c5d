"""Settings: their schema and rules, what determines a run, the making of classes."""
