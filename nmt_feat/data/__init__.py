"""From texts to arrays and batches."""
