"""Cleanup rules of other systems, translated into our policies with a report of what differs."""
