"""Earlier names of what users import: they go with release 0.3."""
