"""What can run on these nodes, and what is in the way of a GO."""
