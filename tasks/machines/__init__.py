"""One machine at a time: shells, connections, processes, ports, HTTP. Knows nothing of EXO or Ollama."""
