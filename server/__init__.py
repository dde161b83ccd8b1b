"""A language server for code completion and explanation from a small local model."""
