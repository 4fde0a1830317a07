"""Machinery that model families share: noise, schedules, attention, codecs."""
