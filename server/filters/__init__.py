"""What stands between a generation and a suggestion: small pure functions in one visible order."""
