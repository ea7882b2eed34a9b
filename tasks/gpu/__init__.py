"""What a node's GPU is and whether it works: tools' output, witnesses, how busy it is."""
