"""Statistics, comparisons, tables, figures, the page."""
