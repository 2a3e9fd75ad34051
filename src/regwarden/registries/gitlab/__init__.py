"""A GitLab's container registry, with the projects that GitLab knows; see ``README.md``."""
