"""Real SSH, real HTTP, real processes, the real `fab`."""
