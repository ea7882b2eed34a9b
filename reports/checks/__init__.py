"""Campaign -> named validity checks, one pure function each."""
