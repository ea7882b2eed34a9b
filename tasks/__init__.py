"""Everything that touches the world: connections, processes, HTTP, files on nodes. See design in docs/."""
