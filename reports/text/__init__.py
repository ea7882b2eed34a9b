"""Numbers and foreign words -> text that a report can show."""
