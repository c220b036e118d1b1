//! Baselines and estates: whatever reads has slots in order, and a deadline for everything.
#![no_main]

use dormouse_policy::{Baseline, Estate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(baseline) = Baseline::parse(text) {
        let _ = baseline.probes();
    }
    if let Ok(estate) = Estate::parse(text) {
        let from = "2026-02-14T12:00:00Z".parse().expect("an instant");
        let slots = estate.calendar("web-01", None).next(from, 8);
        assert!(slots.iter().all(|slot| slot.from < slot.until && slot.until > from));
        assert!(slots.is_sorted());
    }
});
