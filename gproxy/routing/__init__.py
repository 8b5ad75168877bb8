"""Decisions: name to targets, who may, what comes next. Pure: time and counters come in as arguments."""
