"""RQ workers: fine-tuning and refreshing predictions in the background. Serves no requests."""
