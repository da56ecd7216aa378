"""Files by which services run on other machines: containers, compose, Kubernetes (`docs/production.md`)."""
