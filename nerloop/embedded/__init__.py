"""The whole stack on one machine, for `make up` and the end-to-end tests: no Docker, no root, no model hub."""
