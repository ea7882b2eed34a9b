"""Intervals for the difference of two means of logs, made in two ways. Plain floats in, plain floats out."""

from __future__ import annotations
