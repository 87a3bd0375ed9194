"""All ways in which manifests ask for EPC, and the API server's result for each with the add-on's policies."""
