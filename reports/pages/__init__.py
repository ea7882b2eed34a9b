"""The report's sections, in words and tables."""
