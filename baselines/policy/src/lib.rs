//! Baselines judged against inventories at an instant: findings, waivers, verdicts.
