"""Beam search and forced scoring."""
