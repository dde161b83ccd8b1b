"""Makes a base model: corpus, samples, training."""
