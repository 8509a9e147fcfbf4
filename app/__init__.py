"""Polytag: the tags of contacts, exact under concurrency, behind five front ends."""

__version__ = "0.1.0"
