"""What the controller does at the API server: lists and watches nodes and Pods, and patches nodes' status."""
