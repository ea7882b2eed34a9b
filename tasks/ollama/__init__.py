"""Ollama through its own API: pure requests and parsers, and asking the servers."""
