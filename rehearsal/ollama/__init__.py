"""Stand-in for Ollama 0.5.13, from its recorded traffic."""
