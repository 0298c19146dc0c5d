"""States of pretrained encoders of Hugging Face."""
