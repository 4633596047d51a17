"""`perennial prune`: removes what the section `keep` of params.yaml lets go, and nothing that a kept version needs."""
