"""Measuring: a timer, and result rows that say where, when and of what code they were taken."""
