"""Trained models for CTranslate2."""
