"""The Transformer: embedding layer, encoder, decoder, loss."""
