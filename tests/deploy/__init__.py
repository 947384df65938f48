"""What deploys workers is what the rest of the project says it is. `make deploy-check` runs the files check_*.py."""
