"""Samples -> numbers: runs, arms, ratios with intervals, sample sizes. Plain arithmetic, no campaign."""
