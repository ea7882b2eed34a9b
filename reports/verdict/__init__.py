"""Numbers and checks -> the decision and its reasons."""
