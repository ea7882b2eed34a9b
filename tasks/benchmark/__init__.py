"""Steps 9 to 13: models, instrument, schedule, runs."""
