"""Every way in which manifests ask for EPC, and what the API server with the add-on's policies makes of it."""
