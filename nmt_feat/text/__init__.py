"""Texts as they are read: lines, annotation, units of words, subwords."""
