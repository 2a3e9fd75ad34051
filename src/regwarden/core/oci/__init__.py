"""OCI words as values: references, digests, media types, descriptors, manifests. Parse once, trust afterwards."""
