"""A run from its settings to its record; three packages have its parts."""
