"""What the repository itself says comes next: a live index of its text, and how that is mixed with the model."""
