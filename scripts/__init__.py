"""Programs that run alone on any Python 3.9; the package exists so that tests can import them."""
