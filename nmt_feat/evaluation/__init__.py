"""What translations are worth: metrics, and later statistics."""
