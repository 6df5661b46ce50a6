"""What ``bg-ingest doctor`` looks at: one file per subject, each of which returns findings and raises nothing."""
