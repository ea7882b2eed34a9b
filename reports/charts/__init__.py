"""One file a chart: its data, its drawing, its words."""
