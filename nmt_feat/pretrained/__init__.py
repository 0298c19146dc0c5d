"""Pretrained translation models of Hugging Face, to which features are added (an extra)."""
