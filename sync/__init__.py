"""Keeps the registry, the replicas and Label Studio in agreement. Trains nothing and serves nothing."""
