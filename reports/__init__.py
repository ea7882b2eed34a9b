"""Everything behind the fence: reads `logs/`, never touches the world, renders the same bytes from the same logs."""
