"""Doubles shipped with the package: a sample registry, a scripted registry, a contract suite for connectors."""
