"""An embedded cluster on loopback: three SSH nodes, engines whose true speed is known."""
