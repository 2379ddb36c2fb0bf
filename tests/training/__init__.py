"""Tests of the training modules."""
