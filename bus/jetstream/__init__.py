"""What JetStream can do, without a word about aggregates: get, last, page, pull, group commit."""
