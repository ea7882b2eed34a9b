"""Everything behind the fence: reads campaigns, never touches the world, renders the same bytes from the same logs."""
