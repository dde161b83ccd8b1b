"""Adapts the base model to one repository."""
