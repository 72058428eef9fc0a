"""Training and evaluation: data sets, splits, trainers, metrics, tables, figures, synthetic cohorts."""
