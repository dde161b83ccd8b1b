"""Which files belong to a repository: one rule for the index and for fine-tuning."""
