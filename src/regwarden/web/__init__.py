"""What Regwarden serves: deliveries of registries, commands beside the service."""
