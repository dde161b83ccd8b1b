"""The language model: text to prompt to tokens to text. Shared by serving and training."""
