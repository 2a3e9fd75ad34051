"""The connector for everything that speaks the distribution API: Distribution 2.x and 3.x, OCI 1.1 registries."""
