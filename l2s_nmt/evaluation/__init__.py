"""Translate, score, compare, report."""
